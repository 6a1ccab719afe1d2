"""harmonium: fast restricted Boltzmann machines and deep belief networks.

``import harmonium`` is light: what a name stands for is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harmonium._version import __version__

if TYPE_CHECKING:
    from harmonium import (
        callbacks,
        datasets,
        diagnostics,
        evaluation,
        ops,
        plotting,
        sampling,
        schedules,
    )
    from harmonium.autoencoder import DeepAutoencoder
    from harmonium.classifier import DBNClassifier, SoftmaxRegression
    from harmonium.dbn import DBN
    from harmonium.model_file import load
    from harmonium.patch import patch_sklearn, unpatch_sklearn
    from harmonium.rbm import BernoulliRBM

__all__ = [
    "DBN",
    "BernoulliRBM",
    "DBNClassifier",
    "DeepAutoencoder",
    "SoftmaxRegression",
    "__version__",
    "callbacks",
    "datasets",
    "diagnostics",
    "evaluation",
    "load",
    "ops",
    "patch_sklearn",
    "plotting",
    "sampling",
    "schedules",
    "unpatch_sklearn",
]

_MODULE_OF = {
    "BernoulliRBM": "harmonium.rbm",
    "DBN": "harmonium.dbn",
    "DBNClassifier": "harmonium.classifier",
    "DeepAutoencoder": "harmonium.autoencoder",
    "SoftmaxRegression": "harmonium.classifier",
    "load": "harmonium.model_file",
    "patch_sklearn": "harmonium.patch",
    "unpatch_sklearn": "harmonium.patch",
}
_MODULES = (
    "callbacks",
    "datasets",
    "diagnostics",
    "evaluation",
    "ops",
    "plotting",
    "sampling",
    "schedules",
)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    if name in _MODULES:
        return import_module(f"harmonium.{name}")
    raise AttributeError(f"module 'harmonium' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
