"""Every block of code in the README and in docs/ does what the page says: pages are run from top to bottom.

A page runs in a folder of its own, beside a copy of jobs/:

- `python` blocks run in order, in one namespace;
- `sh` and `console` blocks run where all their commands are ours; others (sbatch, pip …) are checked by `bash -n`.
  A `console` block shows commands after `$` and what they print, where `...` stands for anything;
- `toml` blocks are loaded as configs, or as studies where they have a grid; a config that is not complete is laid over
  a small one first.

A line `<!-- file: NAME -->` before a block says that the reader saves it as NAME; `<!-- not run: REASON -->` exempts a
block. Blocks that name w8a need the real data.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ranks

from mpilocal import config as configs
from mpilocal.study import claims, grid, structs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))] if page.exists()
]
OURS = {"mpilocal", "mpiexec", "python", "h5ls", "h5diff", "ls", "cat", "status=$?"}
OPTIONAL = {"h5ls", "h5diff"}  # not everyone has HDF5's tools
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>file|not run): (?P<said>.*?) -->\n+)?```(?P<kind>\S*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
BASE: dict[str, Any] = {
    "data": {"source": "synthetic:classification"},
    "workers": {"count": 8},
    "algorithm": {"rounds": 10, "step_size": 0.1},
}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="these tests are for a source tree")


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str
    line: int
    file: str = ""
    exempt: str = ""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        mark, said = match["mark"], (match["said"] or "").strip()
        marked = {"file": {"file": said}, "not run": {"exempt": said}}.get(mark or "", {})
        found.append(Block(match["kind"], match["text"], text.count("\n", 0, match.start("kind")) + 1, **marked))
    assert len(found) == len(re.findall(r"^```\S+$", text, re.MULTILINE)), f"{page}: a block without a kind"
    return found


def commands(block: Block) -> list[tuple[str, str]]:
    """(command, what it prints) of a console block; the whole text of a sh block."""
    if block.kind == "sh":
        return [(block.text, "")]
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        found.append((command, printed))
    return found


def programs(script: str) -> set[str]:
    """The first words of a script's commands."""
    lines = script.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return {line[0] for line in words if line}


class Page:
    """Runs a page's blocks, in one folder and one namespace."""

    def __init__(self, folder: Path, real: Path | None) -> None:
        self.folder, self.real = folder, real
        self.space: dict[str, Any] = {"__name__": "page"}
        self.missed: list[str] = []
        shutil.copytree(ROOT / "jobs", folder / "jobs")
        if real is not None:
            (folder / "w8a.gz").symlink_to(real / "libsvm" / "w8a.gz")
        bin = folder / ".bin"
        bin.mkdir()
        (bin / "mpilocal").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mpilocal "$@"\n')
        (bin / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        for file in bin.iterdir():
            file.chmod(0o755)
        self.env = {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}

    def run(self, block: Block) -> None:
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.exempt:
            return
        if block.kind in ("sh", "console"):
            self.shell(block)
        elif block.kind == "python":
            code = compile(block.text, block.file or "page", "exec")
            if not block.file and not self.misses(block):
                exec(code, self.space)
        elif block.kind == "toml":
            self.toml(block)
        else:
            assert block.kind == "text", f"a block of kind {block.kind!r}: write text, sh, console, python or toml"

    def misses(self, block: Block) -> bool:
        """Whether the block needs the real data and there are none."""
        missed = "w8a" in block.text and self.real is None
        if missed:
            self.missed.append(str(block.line))
        return missed

    def shell(self, block: Block) -> None:
        for command, printed in commands(block):
            checked = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True, check=False)
            assert checked.returncode == 0, checked.stderr
            used = programs(command)
            if not used <= OURS or any(shutil.which(program) is None for program in used & OPTIONAL):
                assert not printed or used <= OURS, f"{command}: not run, so nobody knows what it prints"
                continue
            if self.misses(block):
                return
            failing = "status=$?" in command
            script = command if failing else f"set -e -o pipefail\n{command}"
            done = ranks.run(["bash", "-c", script], timeout=180, env=self.env, cwd=self.folder)
            if done.returncode and not failing:
                raise AssertionError(f"{command}\n{done.stdout}\n{done.stderr}")
            if block.kind == "console":
                said = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
                flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                if not doctest.OutputChecker().check_output(printed, said, flags):
                    raise AssertionError(f"{command} prints\n{said}")

    def toml(self, block: Block) -> None:
        table = tomllib.loads(block.text)
        if "grid" in table:
            study, files = structs.load(block.file)
            cells = [cell.key for cell in grid.cells_of(study, files)]
            claims.check(study.claims, {key: [cell[key] for cell in cells] for key in cells[0]}, cells, study.names)
            return
        if not {"data", "workers", "algorithm"} <= table.keys():
            table = {**table, **{key: {**BASE[key], **table.get(key, {})} for key in BASE}}
        configs.check(configs.load(table))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = os.environ.get("MPILOCAL_DATA")
    run = Page(tmp_path, Path(named).resolve() if named else None)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        said = ""
        try:
            run.run(block)
        except (Exception, pytest.fail.Exception) as error:
            said = f"{page.name}, line {block.line}: {type(error).__name__}: {error}\n{block.text}"
        if said:
            pytest.fail(said, pytrace=False)
    if run.missed:
        pytest.skip(f"MPILOCAL_DATA is unset: the blocks of {page.name} at lines {', '.join(run.missed)} were not run")


def test_config_reference_is_the_structs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py")],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert kept == done.stdout, "docs/config.md is out of date: python docs/generate.py > docs/config.md"


def test_every_key_is_described() -> None:
    described = {
        line.split("|")[1].strip(): line.rstrip(" |").rsplit("|", 1)[-1].strip()
        for line in (ROOT / "docs" / "config.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    }
    assert len(described) > 40
    assert not [key for key, said in described.items() if not said]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    if not (ROOT / "setup.cfg").exists():
        pytest.skip("some links lead into the tree, and the tests run outside it")
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in known, f"{page.name} links to {target}; {found.name} has {sorted(known)}"
