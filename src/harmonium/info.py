"""What `harmonium info` prints: versions, processor, threads, and what is not installed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["environment"]

# Package, what it is for, and how to get it.
_OPTIONAL = (
    ("matplotlib", "pictures", 'pip install "harmonium[plot]"'),
    (
        "torch",
        "harmonium.torch, to_torch, tensors in ops",
        'pip install "harmonium[torch]"',
    ),
)


def environment() -> list[tuple[str, str]]:
    """Describe the installation and the machine, for people and for bug reports.

    Returns
    -------
    list of (str, str)
        What, and how it stands.

    Raises
    ------
    ValueError
        ``HARMONIUM_ISA`` names an instruction set this machine doesn't have.
    """
    from harmonium import __version__, _core
    from harmonium.datasets.cache import data_folder

    available = ", ".join(_core.available_isas())
    forced = ", by HARMONIUM_ISA" if os.environ.get("HARMONIUM_ISA") else ""
    folder = data_folder()
    return [
        ("harmonium", f"{__version__} in {Path(__file__).parent}"),
        ("instruction set", f"{_core.active_isa()}{forced} (available: {available})"),
        ("processor", f"{_processor()}, {os.cpu_count()} logical cores"),
        ("threads", f"{_core.resolve_threads(0)}, unless a command or OMP_NUM_THREADS says other"),
        ("BLAS", _blas()),
        ("GPU", f"not used by this version ({_gpu()})"),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, _installed(name)) for name in ("numpy", "scipy", "scikit-learn")),
        *(
            (name, _installed(name, f"not installed; for {purpose}: {remedy}"))
            for name, purpose, remedy in _OPTIONAL
        ),
        ("MNIST", f"{folder}{'' if folder.is_dir() else ' (no such folder yet)'}"),
    ]


def _installed(package: str, otherwise: str = "not installed") -> str:
    # From the metadata: importing torch to read its version would take seconds.
    try:
        return version(package)
    except PackageNotFoundError:
        return otherwise


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas() -> str:
    """Describe the BLAS that harmonium calls, which is SciPy's."""
    import threadpoolctl

    from harmonium import _blas  # noqa: F401  # threadpoolctl sees what is loaded alone

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    # NumPy may have brought another one.
    pools.sort(key=lambda pool: "scipy" not in Path(pool["filepath"]).parent.name)
    if not pools:
        return "of a kind threadpoolctl doesn't know"
    pool = pools[0]
    kernels = f", {pool['architecture']} kernels" if pool.get("architecture") else ""
    return f"{pool['internal_api']} {pool['version']}{kernels}, {pool['num_threads']} threads"


def _gpu() -> str:
    found = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    return "NVIDIA driver detected" if found else "none detected"
