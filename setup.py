"""The compiled part of harmonium: an extension in C++, and a little Cython that knows SciPy's BLAS.

Everything else about the package is in pyproject.toml. The extension is built for the plain
instruction set of the platform; the kernels choose AVX2 or AVX-512 when they run.
"""

import platform
import sys
from glob import glob

from Cython.Build import cythonize
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import Extension, setup

if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
    raise SystemExit(
        "harmonium builds with GCC or Clang on Linux, x86-64 or aarch64; "
        f"this is {sys.platform} on {platform.machine()}"
    )

ParallelCompile("HARMONIUM_BUILD_JOBS").install()

core = Pybind11Extension(
    "harmonium._core",
    sorted(glob("csrc/*/*.cpp")),
    include_dirs=["csrc"],
    depends=glob("csrc/*/*.hpp") + glob("csrc/*/*.inc"),
    cxx_std=17,
    # -ffp-contract=off is what makes results equal on every instruction set. The two -fno flags let
    # the compiler vectorise selections and change no value.
    extra_compile_args=[
        "-O3",
        "-fopenmp",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
    ],
    extra_link_args=["-fopenmp"],
)
blas = Extension("harmonium._blas", ["src/harmonium/_blas.pyx"])

setup(ext_modules=[core, *cythonize([blas], build_dir="build", language_level=3)])
