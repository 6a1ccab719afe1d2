"""Where data files are looked for and downloaded to."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """Return the folder of MNIST's files when none is named.

    Returns
    -------
    pathlib.Path
        ``$HARMONIUM_DATA`` if set and not empty, else ``$XDG_CACHE_HOME/harmonium/mnist``, else
        ``~/.cache/harmonium/mnist``. It need not exist.
    """
    if chosen := os.environ.get("HARMONIUM_DATA"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "harmonium" / "mnist"
