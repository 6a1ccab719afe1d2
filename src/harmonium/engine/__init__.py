"""Devices. Models ask for an engine by name and know nothing else about where they run."""

from __future__ import annotations

from harmonium._checks import check_integer
from harmonium.engine.cpu import CpuEngine
from harmonium.engine.protocol import Engine

__all__ = ["Engine", "get_engine"]


def get_engine(device: str = "cpu", n_threads: int | None = None) -> Engine:
    """Return the engine of a device.

    Parameters
    ----------
    device : {"cpu"}
    n_threads : int or None
        Threads for the kernels and the BLAS; None takes what OpenMP and the BLAS would.

    Raises
    ------
    ValueError
        The device is unknown, or `n_threads` is not positive.
    TypeError
        `n_threads` is not an integer.
    """
    if n_threads is not None:
        check_integer("n_threads", n_threads, minimum=1, below=2**31)
    if device != "cpu":
        raise ValueError(f"device must be 'cpu', the one device of this version; got {device!r}")
    return CpuEngine(n_threads)
