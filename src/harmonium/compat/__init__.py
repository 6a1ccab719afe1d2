"""Adapters: the interfaces of other RBM and DBN libraries, on harmonium's kernels."""
