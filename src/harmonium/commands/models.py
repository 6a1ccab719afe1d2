"""Models in files: whole ones, and what they take."""

from __future__ import annotations

from typing import Any

from harmonium.dbn import DBN
from harmonium.model_file import load
from harmonium.networks import NetworkEstimator
from harmonium.stacking import check_sizes

__all__ = ["default_binarize", "load_whole", "require_units"]


def load_whole(path: str) -> Any:
    """Load a model that is ready to be used.

    Raises
    ------
    OSError, ValueError
        There is no such file, it holds no model, or one whose layers are still being trained.
    """
    model = load(path)
    if isinstance(model, NetworkEstimator) and not hasattr(model, "coefs_"):
        missing = "the fine-tuning"
    elif isinstance(model, DBN) and len(model.rbms_) < len(check_sizes(model.hidden_layer_sizes)):
        missing = f"layers above the {len(model.rbms_)} it has"
    else:
        return model
    raise ValueError(
        f"{path}: holds a {type(model).__name__} that lacks {missing}; go on with its training "
        f"first (--resume {path})"
    )


def default_binarize(model: Any, asked: str | None) -> str | None:
    """Return how rows become a model's units: networks are fine-tuned on intensities."""
    return "none" if asked is None and isinstance(model, NetworkEstimator) else asked


def require_units(model: Any, path: str, X: Any, source: str) -> None:
    """Raise unless rows have as many units as a model."""
    if X.shape[1] != model.n_features_in_:
        raise ValueError(
            f"{source}: has {X.shape[1]} units a row, but {path} was trained on "
            f"{model.n_features_in_}"
        )
