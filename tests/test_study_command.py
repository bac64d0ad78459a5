"""`mpilocal study` as it is typed: its table, its figures, and files that are no study."""

from __future__ import annotations

import shutil

import cli_helpers
import pytest
from study_helpers import written

CLAIMED = """
[[claims]]
kind = "ordering"
claim = "more local steps in a round, fewer rounds"
quantity = { kind = "final", of = "round" }
select = { variant = "local" }
along = "algorithm.local_steps"
direction = "decreasing"
[[claims]]
kind = "bound"
claim = "the gap is below what no run reaches"
quantity = { kind = "final" }
at_most = 1e-300
[[figures]]
name = "rounds"
x = "algorithm.local_steps"
y = { kind = "final", of = "round" }
lines = "workers.count"
select = { variant = "local" }
"""


@pytest.mark.slow
def test_the_command(tmp_path, mpiexec):
    path = written(tmp_path)
    path.write_text(path.read_text() + CLAIMED)
    done = mpiexec(2, "study", path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "claims.txt").read_text()
    assert table.strip() in done.stdout and table.count(" yes ") == 1 and table.count(" NO ") == 1
    drawn = [tmp_path / "out" / f"rounds.{kind}" for kind in ("png", "svg")]
    before = [file.read_bytes() for file in drawn]
    for file in drawn:
        file.unlink()
    shutil.rmtree(tmp_path / "out" / "runs")
    done = mpiexec(1, "study", path, "-o", tmp_path / "out", "--draw", "--strict")
    assert done.returncode == 1, done.stderr
    assert [file.read_bytes() for file in drawn] == before and not (tmp_path / "out" / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_bad_file_has_its_sentence(tmp_path, mpiexec, ranks):
    """Nothing runs, and nothing is left behind."""
    faults = {
        '"final", of = "round"': ('"finale", of = "round"', "claims.0.quantity.kind"),
        'select = { variant = "local" }\nalong': ('select = { variant = "locale" }\nalong', "is no cell of the grid"),
        "[[claims]]": ("[[claim]]", '"claim" is not a known key'),
        'lines = "workers.count"': ('lines = "workers.cuont"', '"workers.cuont" is not an axis of the grid'),
        "[1, 4]": ("[]", "is no list of values: write some"),
        "ceil(96": ("ceil(J * 96", '"J" is not a known name'),
        "at_most = 1e-300": ("", "compares with nothing"),
    }
    whole = written(tmp_path).read_text().replace("    1,\n    4,\n", "1, 4").replace("[\n1, 4]", "[1, 4]") + CLAIMED
    for number, (good, (bad, said)) in enumerate(faults.items()):
        assert good in whole, good
        path = tmp_path / f"{number}.toml"
        path.write_text(whole.replace(good, bad))
        done = mpiexec(ranks, "study", path, "-o", tmp_path / "other")
        sentences = cli_helpers.said(done)
        assert done.returncode == 2 and len(sentences) == 1 and said in sentences[0], (good, done.stderr)
        assert not (tmp_path / "other").exists()
