"""An RBM on numbers drawn one after the other, in scikit-learn's order and arithmetic.

What a :class:`numpy.random.RandomState` as `random_state` asks of :class:`harmonium.BernoulliRBM`:
the results scikit-learn's class would have. So nothing is rounded but as the parameters' dtype does
it, and what is drawn, and when, is written down here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit
from sklearn.utils.extmath import safe_sparse_dot

from harmonium._visible import chunks_of_values
from harmonium.engine.protocol import Array, Engine, Order, Rows, TrainingArrays
from harmonium.rbm_training import RbmTraining

if TYPE_CHECKING:
    from harmonium.rbm import BernoulliRBM

_NUMBERS_A_CALL = 2**19
"""At most, but for single updates: 4 MB, and Ctrl-C is seen between calls."""

_VALUES_A_CHUNK = 2**22


def hidden_means(rbm: BernoulliRBM, v: Any) -> Array:
    """Return p(h = 1 | v) of rows, dense or sparse."""
    p = safe_sparse_dot(v, rbm.components_.T, dense_output=True)
    p += rbm.intercept_hidden_
    return np.asarray(expit(p, out=p))


def visible_means(rbm: BernoulliRBM, h: Any) -> Array:
    """Return p(v = 1 | h) of rows."""
    p = safe_sparse_dot(h, rbm.components_, dense_output=True)
    p += rbm.intercept_visible_
    return np.asarray(expit(p, out=p))


def draw(p: Array, rng: np.random.RandomState) -> Array:
    """Return states that are on with probability p."""
    return rng.random_sample(p.shape) < p


def free_energy(rbm: BernoulliRBM, v: Any) -> Array:
    """Return F(v) of rows, dense or sparse."""
    x = safe_sparse_dot(v, rbm.components_.T, dense_output=True)
    x += rbm.intercept_hidden_
    return np.asarray(
        -safe_sparse_dot(v, rbm.intercept_visible_) - np.logaddexp(0, x, out=x).sum(axis=1)
    )


def gibbs(rbm: BernoulliRBM, v: Any, n_steps: int, rng: np.random.RandomState) -> Array:
    """Return visible states after steps v → h → v."""
    for _ in range(n_steps):
        v = draw(visible_means(rbm, draw(hidden_means(rbm, v), rng)), rng)
    return np.asarray(v)


def score_samples(rbm: BernoulliRBM, v: Any, rng: np.random.RandomState) -> Array:
    """Return the stochastic log pseudo-likelihood of rows, dense or sparse."""
    parameters = rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_
    return pseudo_likelihood(*parameters, v, draw_flips(v.shape[0], v.shape[1], rng))


def pseudo_likelihood(
    components: Array,
    intercept_visible: Array,
    intercept_hidden: Array,
    v: Any,
    flips: Array,
) -> Array:
    """Return n_visible · log σ(F(v') − F(v)) of rows, unit `flips[r]` of row r flipped in v'.

    The pre-activations of v' are those of v plus one row of W: no second product.
    """
    n_rows, n_visible = v.shape
    scores = np.empty(n_rows)
    chunk = max(1, _VALUES_A_CHUNK // len(intercept_hidden))
    for begin in range(0, n_rows, chunk):
        rows, units = v[begin : begin + chunk], flips[begin : begin + chunk]
        change = 1 - 2 * np.asarray(rows[np.arange(len(units)), units]).ravel()
        x = safe_sparse_dot(rows, components.T, dense_output=True) + intercept_hidden
        flipped = x + change[:, None] * components.T[units]
        rise = np.logaddexp(0, x).sum(axis=1) - np.logaddexp(0, flipped).sum(axis=1)
        rise -= change * intercept_visible[units]
        scores[begin : begin + chunk] = -n_visible * np.logaddexp(0, -rise)
    return scores


def draw_flips(n_rows: int, n_visible: int, rng: np.random.RandomState) -> Array:
    """Return the unit of each row that its pseudo-likelihood flips."""
    return rng.randint(0, n_visible, n_rows)


class GeneratorTrainer:
    """Persistent contrastive divergence on the numbers of a generator, for those who train.

    Implements :class:`harmonium.engine.protocol.Updates`.
    """

    def __init__(self, engine: Engine, arrays: TrainingArrays, rng: np.random.RandomState) -> None:
        self._trainer = engine.sequential_trainer(arrays)
        self._rng = rng

    @property
    def rows_done(self) -> int:
        return self._trainer.rows_done

    def updates_a_pass(self, rows: Rows, batch_size: int) -> int:
        return 1

    def run(
        self,
        rows: Rows,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> None:
        per_update = self._trainer.numbers_per_update
        most = max(1, _NUMBERS_A_CALL // per_update) * batch_size
        end = begin + count
        for at in range(begin, end, most):
            n = min(most, end - at)
            before, done = self._rng.get_state(legacy=False), self.rows_done
            try:
                # uniform(0, 1) of all its updates in turn: so many numbers, in the same order.
                numbers = self._rng.random_sample(-(-n // batch_size) * per_update)
                self._trainer.run(rows, order, at, n, batch_size, learning_rate, numbers)
            except BaseException:
                if self.rows_done == done:  # Ctrl-C, between drawing and using them
                    self._rng.set_state(before)
                raise


class SequentialTraining(RbmTraining):
    """A run on the numbers of `rng`; what it prints takes some of them, as scikit-learn's does."""

    def __init__(self, *run: Any, rng: np.random.RandomState) -> None:
        super().__init__(*run)
        self.rng = rng

    def measure(self) -> dict[str, float]:
        metrics = super().measure()
        if self.plan.verbose:
            metrics["pseudo_likelihood"] = self._score()
        return metrics

    def _score(self) -> float:
        W, b, c = self.state.arrays[:3]
        flips = draw_flips(self.n_rows, self.rows.n_cols, self.rng)
        total = 0.0
        for at, v in chunks_of_values(self.rows, np.arange(self.n_rows)):
            total += float(pseudo_likelihood(W.T, b, c, v, flips[at]).sum())
        return total / self.n_rows


def save_generator(rng: np.random.RandomState) -> dict[str, Any]:
    """Return a generator's state; its "key" is an array, the rest numbers."""
    _, key, position, has_gauss, gauss = rng.get_state(legacy=True)
    return {"key": key, "position": position, "has_gauss": has_gauss, "gauss": gauss}


def restore_generator(rng: np.random.RandomState, saved: dict[str, Any]) -> None:
    """Bring a generator to a saved state."""
    rng.set_state(("MT19937", saved["key"], saved["position"], saved["has_gauss"], saved["gauss"]))
