"""Compiled kernels and the arrays they read; imported only as `mpilocal.kernels`, which is a link to this folder."""

if __name__ != "mpilocal.kernels":
    raise ImportError(f"{__name__} is not importable by this name; import mpilocal.kernels instead")
