"""Installs the clone that this recipe lies in, as committed: `spack install py-mpilocal`."""

from pathlib import Path

from spack_repo.builtin.build_systems.python import PythonPackage

from spack.package import *


class PyMpilocal(PythonPackage):
    """Local SGD and its family on MPI: compiled kernels, exact averaging, HDF5 records."""

    git = Path(__file__).resolve().parents[6].as_uri()

    license("BSD-3-Clause")

    version("main", branch="main")

    variant("plots", default=True, description="Draw figures with Matplotlib")
    variant("data", default=False, description="Read the data sets that come with scikit-learn")

    depends_on("python@3.11:", type=("build", "run"))
    depends_on("py-setuptools@77:", type="build")
    depends_on("py-numpy@2:", type=("build", "run"))
    depends_on("py-numba@0.61:", type=("build", "run"))
    depends_on("py-scipy@1.13:", type=("build", "run"))
    depends_on("mpi", type="run")  # `spack load` brings mpiexec
    depends_on("py-mpi4py@4:", type=("build", "run"))
    depends_on("py-h5py@3.11:", type=("build", "run"))
    depends_on("py-msgspec@0.19:", type=("build", "run"))
    depends_on("py-tomli-w@1:", type=("build", "run"))
    depends_on("py-matplotlib@3.9:", type=("build", "run"), when="+plots")
    depends_on("py-scikit-learn@1.5:", type=("build", "run"), when="+data")
