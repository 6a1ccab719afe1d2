"""What estimators that can be written to a file have in common."""

from __future__ import annotations

import inspect
import os
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted


class SavedEstimator:
    """An estimator with a file: base of those that :func:`harmonium.load` reads."""

    # Parameters that a resumed training can't change.
    _fixed_by_training: tuple[str, ...] = ()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of versions with fewer parameters: what they lack has its default.
        parameters = inspect.signature(type(self)).parameters
        super().__setstate__(  # type: ignore[misc]
            {name: parameter.default for name, parameter in parameters.items()} | state
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, with all that training needs to go on, to a safetensors file.

        Functions and objects among the parameters can't be written: `callbacks` is left out, a
        `learning_rate` or `momentum` that is a function is saved as its value for the last epoch,
        unless it is one of :mod:`harmonium.schedules`, a `random_state` that is a generator as
        None.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step: a crash or a full disk leaves the old file.

        Raises
        ------
        OSError
            The file can't be written; the message says why.
        """
        from harmonium.model_file import save

        if not hasattr(self, "rbms_"):  # which can be saved while they are pre-trained
            check_is_fitted(self)
        save(self, path)

    def _load_checkpoint(self, path: str | os.PathLike[str]) -> Any:
        """Return the estimator in a file, after checking its kind and its fixed parameters."""
        from harmonium.model_file import load

        saved, where = load(path), os.fspath(path)
        if not isinstance(self, type(saved)):
            raise ValueError(f"{where} holds a {type(saved).__name__}, not a {type(self).__name__}")
        for name in self._fixed_by_training:
            theirs, ours = getattr(saved, name), getattr(self, name)
            if not np.array_equal(theirs, ours):
                raise ValueError(
                    f"{where} was trained with {name}={theirs!r}, but this estimator has "
                    f"{name}={ours!r}"
                )
        return saved
