"""SciPy's BLAS for the extension.

The cimport is type-checked: a changed signature in SciPy stops the build instead of corrupting memory.
"""

from cpython.pycapsule cimport PyCapsule_New
from scipy.linalg.cython_blas cimport sgemm

sgemm_pointer = PyCapsule_New(<void*> sgemm, "harmonium.sgemm", NULL)
