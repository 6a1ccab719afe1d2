"""What can look on while a model trains, and stop it.

A callback is any function ``callback(estimator, epoch, metrics)``, called after every epoch with
the fitted attributes up to date; returning True ends the training. `epoch` counts from 1; `metrics`
is a dict of floats. Those that want to know more derive from :class:`Callback`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from harmonium._checks import check_integer, check_real

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "MetricsWriter", "ProgressBar"]

Metrics: TypeAlias = Mapping[str, float]


class Callback:
    """Base class: override what you need."""

    title = ""
    """What is being trained: the estimator, or a part of it such as a layer."""

    n_epochs = 0
    """How many epochs it is going to have."""

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        """Training starts; `first_epoch` epochs were done before (by the run being resumed).

        An estimator that trains one part after the other begins and ends once for each.
        """

    def on_progress(self, estimator: Any, epoch: int, fraction: float) -> None:
        """A part of epoch `epoch` is done. Called about twenty times a second."""

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> bool | None:
        """Epoch `epoch` is done; return True to end the training."""

    def on_fit_end(self, estimator: Any) -> None:
        """Training has ended, by itself, by a callback, by an error or by Ctrl-C."""


class _Function(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[Any, int, Metrics], bool | None]) -> None:
        self._function = function

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> bool | None:
        return self._function(estimator, epoch, metrics)


class CallbackList(Callback):
    """Several callbacks as one; all of them see every event."""

    def __init__(self, callbacks: Any) -> None:
        if callbacks is None:
            callbacks = []
        elif not isinstance(callbacks, (list, tuple)):  # an iterator would be used up at once
            callbacks = [callbacks]
        self.callbacks = [self._as_callback(callback) for callback in callbacks]

    @staticmethod
    def _as_callback(callback: Any) -> Callback:
        if isinstance(callback, Callback):
            return callback
        if callable(callback) and not isinstance(callback, type):
            return _Function(callback)
        raise TypeError(
            "callbacks must be functions of (estimator, epoch, metrics) or instances of "
            f"harmonium.callbacks.Callback; got {callback!r}"
        )

    def __bool__(self) -> bool:
        return bool(self.callbacks)

    def begin(self, estimator: Any, title: str, n_epochs: int, first_epoch: int) -> None:
        """Tell all of them what is trained, then that it begins."""
        for callback in (self, *self.callbacks):
            callback.title, callback.n_epochs = title, n_epochs
        self.on_fit_begin(estimator, first_epoch)

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        for callback in self.callbacks:
            callback.on_fit_begin(estimator, first_epoch)

    def on_progress(self, estimator: Any, epoch: int, fraction: float) -> None:
        for callback in self.callbacks:
            callback.on_progress(estimator, epoch, fraction)

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> bool:
        answers = [callback.on_epoch_end(estimator, epoch, metrics) for callback in self.callbacks]
        return any(answers)

    def on_fit_end(self, estimator: Any) -> None:
        for callback in self.callbacks:
            callback.on_fit_end(estimator)


class ProgressBar(Callback):
    """A bar over the epochs, with the latest metrics behind it.

    Parameters
    ----------
    metrics : sequence of str
        Which metrics to show, if they are measured.
    file : file object, optional
        Where the bar goes; standard error by default.
    """

    _SHORT: ClassVar = {
        "log_likelihood": "LL",
        "val_log_likelihood": "held-out LL",
        "pseudo_likelihood": "PL",
        "val_pseudo_likelihood": "held-out PL",
        "reconstruction_error": "error",
        "val_reconstruction_error": "held-out error",
        "free_energy_gap": "gap",
        "val_error": "validation error",
    }

    def __init__(
        self,
        metrics: Iterable[str] = ("pseudo_likelihood", "val_pseudo_likelihood"),
        file: Any = None,
    ) -> None:
        self.metrics = tuple(metrics)
        self.file = file
        self._bar: Any = None

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=self.n_epochs,
            initial=first_epoch,
            desc=self.title,
            file=self.file,
            bar_format="{desc}: {percentage:3.0f}%|{bar:20}| epoch {n:.1f}/{total} "
            "[{elapsed}<{remaining}{postfix}]",
        )

    def on_progress(self, estimator: Any, epoch: int, fraction: float) -> None:
        self._bar.update(epoch - 1 + fraction - self._bar.n)

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> None:
        shown = [
            f"{self._SHORT.get(name, name)} {metrics[name]:.4g}"
            for name in self.metrics
            if name in metrics
        ]
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.update(epoch - self._bar.n)

    def on_fit_end(self, estimator: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EarlyStopping(Callback):
    """End the training when a metric has not improved for a while.

    Parameters
    ----------
    monitor : str
        Name of a metric: "val_pseudo_likelihood" by default, which needs ``fit(X, X_val=...)``.
    patience : int
        How many epochs without improvement to allow.
    min_delta : float
        What counts as an improvement: better by more than this.
    mode : {"auto", "max", "min"}
        Whether larger is better; "auto" takes the smaller as better for errors and gaps.

    Attributes
    ----------
    best_ : float
        The best value seen.
    best_epoch_ : int
        The epoch that had it.
    """

    def __init__(
        self,
        monitor: str = "val_pseudo_likelihood",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
    ) -> None:
        check_integer("patience", patience, minimum=0)
        check_real("min_delta", min_delta, minimum=0.0)
        if mode not in ("auto", "max", "min"):
            raise ValueError(f"mode must be 'auto', 'max' or 'min'; got {mode!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        smaller = self.mode == "min" or (
            self.mode == "auto" and self.monitor.endswith(("error", "gap"))
        )
        self._sign = -1.0 if smaller else 1.0
        self.best_ = -self._sign * float("inf")
        self.best_epoch_ = first_epoch
        # A resumed run has seen its earlier epochs already.
        history = getattr(estimator, "history_", {})
        seen = zip(history.get("epoch", ()), history.get(self.monitor, ()), strict=False)
        for epoch, value in seen:
            self._is_late(epoch, value)

    def _is_late(self, epoch: int, value: float) -> bool:
        if self._sign * (value - self.best_) > self.min_delta:
            self.best_, self.best_epoch_ = value, epoch
        return epoch - self.best_epoch_ > self.patience

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> bool:
        if self.monitor not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise ValueError(
                f"EarlyStopping watches {self.monitor!r}, which is not measured; measured: {known}"
                + (". Held-out metrics need fit(X, X_val=...)" if "val" in self.monitor else "")
            )
        return self._is_late(epoch, metrics[self.monitor])


class Checkpoint(Callback):
    """Save everything the training needs to go on, every few epochs.

    The file is replaced in one step, so that a run killed at any moment leaves a whole one;
    ``fit(X, resume=path)`` continues from it to the result the uninterrupted run would have had,
    bit for bit.

    Parameters
    ----------
    path : str or path-like
        A ``.safetensors`` file; ``{epoch}`` in its name is replaced by the epoch.
    every : int
        Epochs from one checkpoint to the next.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = os.fspath(path)
        self.every = check_integer("every", every, minimum=1)

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> None:
        if epoch % self.every == 0:
            estimator.save(Path(self.path.replace("{epoch}", str(epoch))))


class _ScalarWriter(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> Any: ...


class MetricsWriter(Callback):
    """Pass every metric on to a writer, such as TensorBoard's ``SummaryWriter``.

    Parameters
    ----------
    writer : object
        Anything with ``add_scalar(tag, value, step)``.
    prefix : str
        Put before each metric's name.
    """

    def __init__(self, writer: _ScalarWriter, prefix: str = "") -> None:
        if not callable(getattr(writer, "add_scalar", None)):
            raise TypeError(
                f"writer must have a method add_scalar(tag, value, step); got {writer!r}"
            )
        self.writer = writer
        self.prefix = prefix

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(self.prefix + name, value, epoch)
