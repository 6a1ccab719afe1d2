"""What scikit-learn's RBM has beside its documented methods, and the way from and to it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from harmonium import sequential
from harmonium._visible import Units, units_of_array
from harmonium.engine import get_engine
from harmonium.engine.protocol import Array, Machine
from harmonium.training import value_at

if TYPE_CHECKING:
    from sklearn.neural_network import BernoulliRBM as ScikitLearnRBM

    from harmonium.rbm import BernoulliRBM

_PARAMETERS = (
    "n_components",
    "learning_rate",
    "batch_size",
    "n_iter",
    "verbose",
    "random_state",
)
_FITTED = (
    "components_",
    "intercept_hidden_",
    "intercept_visible_",
    "h_samples_",
    "feature_names_in_",
)


class ScikitLearnMethods:
    """Base of the RBM: what scikit-learn's users call that is not harmonium's own."""

    @classmethod
    def from_sklearn(cls: Any, estimator: ScikitLearnRBM) -> BernoulliRBM:
        """Return a copy of scikit-learn's estimator, from an old pickle, say.

        Parameters
        ----------
        estimator : sklearn.neural_network.BernoulliRBM
            Fitted or not.

        Returns
        -------
        BernoulliRBM
            With its parameters, and what was fitted.

        Raises
        ------
        TypeError
            It is something else.
        """
        kind = type(estimator)
        if kind.__name__ != "BernoulliRBM" or not kind.__module__.startswith("sklearn."):
            raise TypeError(
                "from_sklearn takes a sklearn.neural_network.BernoulliRBM; "
                f"got {kind.__module__}.{kind.__name__}"
            )
        rbm = cls(**{name: copy.deepcopy(getattr(estimator, name)) for name in _PARAMETERS})
        _copy_fitted(estimator, rbm)
        if hasattr(rbm, "components_"):
            rbm.n_features_in_ = rbm.components_.shape[1]  # which pickles before 0.24 lack
            rbm.n_iter_ = estimator.n_iter
            rbm.history_ = {}
        return rbm  # type: ignore[no-any-return]

    def to_sklearn(self: Any) -> ScikitLearnRBM:
        """Return a copy as scikit-learn's class, whether that is patched or not.

        It has the parameters that class knows; a `learning_rate` that is a function is its value
        in the last epoch.

        Returns
        -------
        sklearn.neural_network.BernoulliRBM
        """
        from sklearn.neural_network._rbm import BernoulliRBM as ScikitLearnRBM

        parameters = {name: copy.deepcopy(getattr(self, name)) for name in _PARAMETERS}
        if callable(self.learning_rate):
            last = max(0, getattr(self, "n_iter_", 0) - 1)
            parameters["learning_rate"] = value_at("learning_rate", self.learning_rate, last)
        estimator = ScikitLearnRBM(**parameters)
        _copy_fitted(self, estimator)
        if hasattr(estimator, "components_"):
            estimator._n_features_out, estimator.n_features_in_ = estimator.components_.shape
        return estimator

    def _floats(self, X: Any) -> Any:
        """Validate rows of a fitted estimator's as scikit-learn does."""
        check_is_fitted(self)
        dtypes = (np.float64, np.float32)
        return validate_data(self, X, accept_sparse="csr", reset=False, dtype=dtypes)

    # The private methods take rows as they are: nothing is checked as features, one row may be a
    # vector. `rng` is a RandomState, and what they draw is what scikit-learn would.

    def _mean_hiddens(self: Any, v: Any) -> Array:
        if self._rng is not None:
            return sequential.hidden_means(self, v)
        return self._of_rows(v, "v", self._n_visible, self._hidden_means)  # type: ignore[no-any-return]

    def _mean_visibles(self: Any, h: Any) -> Array:
        if self._rng is not None:
            return sequential.visible_means(self, h)
        return self._of_rows(h, "h", self._n_features_out, self._visible_means)  # type: ignore[no-any-return]

    def _sample_hiddens(self, v: Any, rng: np.random.RandomState) -> Array:
        return sequential.draw(self._mean_hiddens(v), rng)

    def _sample_visibles(self, h: Any, rng: np.random.RandomState) -> Array:
        return sequential.draw(self._mean_visibles(h), rng)

    def _free_energy(self: Any, v: Any) -> Array:
        if self._rng is not None:
            return sequential.free_energy(self, v)
        return self._of_rows(v, "v", self._n_visible, self._free_energies)  # type: ignore[no-any-return]

    def _fit(self: Any, v_pos: Any, rng: np.random.RandomState) -> None:
        engine = get_engine(self.device, self.n_threads)
        data = units_of_array(engine, v_pos, self._n_visible, "v_pos")
        self._update_once(engine, data, rng)

    def _of_rows(
        self: Any, rows: Any, name: str, n_units: int, compute: Callable[[Machine, Units], Array]
    ) -> Array:
        engine, machine = self._ready()
        is_vector = np.ndim(rows) == 1
        data = units_of_array(engine, np.asarray(rows)[None] if is_vector else rows, n_units, name)
        result = compute(machine, data)
        return result[0] if is_vector else result


def _copy_fitted(estimator: Any, to: Any) -> None:
    for name in _FITTED:
        if hasattr(estimator, name):
            setattr(to, name, getattr(estimator, name).copy(order="K"))
