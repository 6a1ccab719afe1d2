"""SciPy's sgemm, as a capsule for the extension."""

sgemm_pointer: object
