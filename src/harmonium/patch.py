"""harmonium's RBM wherever a program asks scikit-learn for its own.

``python -m harmonium.patch script.py`` runs a script that knows nothing of harmonium so; ``-m``
runs a module.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

__all__ = ["patch_sklearn", "unpatch_sklearn"]

_USAGE = "usage: python -m harmonium.patch [-m] script-or-module [arguments]"

_original: Any = None


def patch_sklearn() -> None:
    """Put :class:`harmonium.BernoulliRBM` in the place of ``sklearn.neural_network.BernoulliRBM``.

    For what is imported from there afterwards: call it before. Pickles of scikit-learn's estimators
    still are scikit-learn's.

    See Also
    --------
    unpatch_sklearn : Take that back.
    """
    import sklearn.neural_network

    from harmonium.rbm import BernoulliRBM

    global _original
    if sklearn.neural_network.BernoulliRBM is not BernoulliRBM:
        _original = sklearn.neural_network.BernoulliRBM
        sklearn.neural_network.BernoulliRBM = BernoulliRBM


def unpatch_sklearn() -> None:
    """Give ``sklearn.neural_network`` its own class back, if it was patched."""
    import sklearn.neural_network

    global _original
    if _original is not None:
        sklearn.neural_network.BernoulliRBM = _original
        _original = None


def main(arguments: list[str]) -> None:
    """Run a script, or with ``-m`` a module, as Python would, with scikit-learn patched."""
    is_module = arguments[:1] == ["-m"]
    arguments = arguments[is_module:]
    if not arguments or arguments[0].startswith("-"):
        raise SystemExit(_USAGE)
    from harmonium.patch import patch_sklearn  # not the copy that runs as __main__

    patch_sklearn()
    sys.argv = arguments
    if is_module:
        sys.path[0] = ""
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    if not Path(arguments[0]).exists():
        raise SystemExit(f"python -m harmonium.patch: there is no file {arguments[0]}")
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
