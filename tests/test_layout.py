"""The walls of the package: who may import whom, what is said in one place only, what an import must not bring in."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = [
    ["kernels"],
    ["errors", "config", "plugins", "atomic"],
    [
        "problem",
        "data",
        "tree",
        "exact",
        "ledger",
        "threads",
        "affinity",
        "schedules",
        "custom",
        "stream",
        "projection",
        "blocks",
        "quadratic",
    ],
    ["algorithms", "measures", "prepare", "shards", "optimum"],
    ["store", "figure", "timing", "progress"],
    ["loop", "observe", "resuming", "guard", "signals", "stall"],
    ["__init__", "api", "session", "study", "scale", "report", "slurm", "warm", "doctor", "show", "compare"],
    ["cli", "__main__"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
BELOW_KERNELS = {"numpy", "numba", "llvmlite"} | sys.stdlib_module_names  # Numba's intrinsics are written in llvmlite

# What costs start-up time, or what a login node may not load.
HEAVY = ["mpi4py.MPI", "scipy", "sklearn", "matplotlib", "torch"]
SCIPY = ["scipy.linalg", "scipy.optimize", "scipy.sparse", "scipy.special"]  # Numba looks at scipy's version

# mpi4py's methods that pickle, which cost 20 to 30 times those that send buffers.
PICKLING = {
    "allgather",
    "allreduce",
    "alltoall",
    "bcast",
    "bsend",
    "exscan",
    "gather",
    "irecv",
    "isend",
    "issend",
    "recv",
}
PICKLING |= {"reduce", "scan", "scatter", "send", "sendrecv", "ssend"}


def _package() -> Path:
    found = importlib.util.find_spec("mpilocal")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def _walk(folder: Path) -> list[Path]:
    """All modules, also those behind the link mpilocal/kernels."""
    files = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name != "__pycache__":
            files += _walk(entry)
        elif entry.suffix == ".py":
            files.append(entry)
    return files


PACKAGE = _package()
MODULES = _walk(PACKAGE)


def _name(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


def _part(module: str) -> str:
    """The part of the package that a dotted module belongs to: mpilocal.data.rows is of `data`."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def _imports(file: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of all imports of a file, those inside functions and for type checking too."""
    dotted = _name(file).removesuffix(".py").replace("/", ".").removesuffix(".__init__").split(".")
    here = dotted if file.name == "__init__.py" else dotted[:-1]
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "mpilocal":  # from mpilocal import exact, __version__
                found += [
                    (node.lineno, f"mpilocal.{alias.name}" if alias.name in FLOOR else "mpilocal")
                    for alias in node.names
                    if alias.name != "__version__"
                ]
            else:
                found.append((node.lineno, module))
    return found


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_imports_go_down(file: Path) -> None:
    part = _part(_name(file).removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    assert part in FLOOR, f"{_name(file)}: {part!r} has no floor; give it one in FLOORS of tests/test_layout.py"
    for line, module in _imports(file):
        top = module.split(".")[0]
        if top == "mpilocal":
            to = _part(module)
            assert to in FLOOR, f"{_name(file)}:{line} imports {module}, which has no floor"
            assert FLOOR[to] <= FLOOR[part], (
                f"{_name(file)}:{line} is on floor {FLOOR[part]} and imports {module} of floor {FLOOR[to]}"
            )
        elif part == "kernels":
            assert top in BELOW_KERNELS, f"{_name(file)}:{line} imports {module}; kernels know NumPy and Numba only"


@pytest.mark.parametrize("file", [*MODULES, *_walk(Path(__file__).parent)], ids=lambda file: "/".join(file.parts[-2:]))
def test_files_are_short(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{file} has {lines} lines; over 300 it is two files"


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_only_the_cli_names_the_world(file: Path) -> None:
    if _name(file).startswith("mpilocal/cli/"):
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        said = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
        assert said != "COMM_WORLD", f"{_name(file)}: take the communicator as an argument"


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_no_pickled_messages_in_the_loop(file: Path) -> None:
    if _part(_name(file).removesuffix(".py").replace("/", ".")) not in {"loop", "tree", "exact", "algorithms"}:
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PICKLING:
            owner = ast.unparse(node.func.value)
            assert owner.split(".")[0] in {"np", "functools"}, (
                f"{_name(file)}:{node.lineno}: {owner}.{node.func.attr}(…) pickles; use {node.func.attr.capitalize()}"
            )


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_mpi_is_not_imported_with_a_module(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        else:
            continue
        heavy = [name for name in sorted(names) if any(name == h or name.startswith(f"{h}.") for h in HEAVY)]
        assert not heavy, f"{_name(file)}:{node.lineno} imports {heavy[0]} with the module; import it where it is used"


def _fresh(code: str) -> str:
    """Run code in a new interpreter; return the heavy modules that it loaded."""
    loaded = [name for name in HEAVY if name != "scipy"] + SCIPY
    tail = f"\nprint(*[name for name in {loaded} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", "import sys, importlib, runpy\n" + code + tail],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def test_importing_brings_in_nothing_heavy() -> None:
    names = [_name(file).removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in MODULES]
    names = [name for name in names if not name.endswith("__main__")]
    assert not _fresh(f"for name in {names}: importlib.import_module(name)")


@pytest.mark.parametrize("words", ["--help", "run --help", "resume --help", "show --help", "data info --help"])
def test_help_brings_in_nothing_heavy(words: str) -> None:
    assert not _fresh(
        f"sys.argv = {['mpilocal', *words.split()]}\n"
        "try: runpy.run_module('mpilocal', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code"
    )


def test_kernels_have_one_name() -> None:
    import mpilocal.kernels

    file = mpilocal.kernels.__file__
    assert file is not None
    spec = importlib.util.spec_from_file_location("kernels", file)
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match=r"import mpilocal\.kernels instead"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
