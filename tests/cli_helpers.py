"""What the tests of the command line share."""

from __future__ import annotations

import sys
from pathlib import Path

import ranks

JOBS = Path(__file__).parent.parent / "jobs"
CONFIG = """
[data]
source = "rows.txt"
[problem]
l2 = 0.1
[workers]
count = 4
[algorithm]
rounds = 20
local_steps = 4
batch = 2
step_size = 0.5
[output]
record_every = 5
"""


def make_job(folder):
    """Write a config and its 24 rows of 4 features; return the config's path."""
    rows = [f"{1 if i % 3 else -1} 1:{(i * 7) % 5 - 2} {2 + i % 3}:1\n" for i in range(24)]
    (folder / "rows.txt").write_text("".join(rows))
    (folder / "job.toml").write_text(CONFIG)
    return folder / "job.toml"


def single(*words, **options):
    """Run mpilocal in a process of its own, without a launcher."""
    return ranks.run([sys.executable, "-m", "mpilocal", *map(str, words)], **options)


def said(done):
    """Return the lines of our own on stderr, none of them of a traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("mpilocal:")]
