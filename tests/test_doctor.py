"""The doctor: what it sees of MPI, the ranks, the folders, and what it says to do."""

from __future__ import annotations

import json
import os

import pytest

from mpilocal import doctor
from mpilocal.doctor import ranks, software, storage
from mpilocal.doctor.ranks import Host

NAMES = {"mpilocal", "packages", "MPI", "mpiexec", "launch", "ranks", "threads", "cache", "HDF5", "output", "locks"}
MOUNTS = """\
/dev/root / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/my\\040disk xfs rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
"""


def test_examine(tmp_path):
    from mpi4py import MPI

    items = doctor.examine(MPI.COMM_SELF, tmp_path / "not" / "yet", None, {"PMI_RANK": "0"})
    found = {item.name: item for item in items}
    assert found.keys() >= NAMES
    assert found["output"].status == "ok" and "to be made" in found["output"].text
    assert found["locks"].status == "ok"
    assert "PMI_RANK=0" in found["environment"].text
    assert list(tmp_path.iterdir()) == []
    assert doctor.status(items) == 0
    assert doctor.text(items).count("\n") + 1 == len(items) + sum(bool(item.remedy) for item in items)


def test_a_launcher_that_does_not_match():
    item = ranks.launch(1, (4, "PMI_SIZE"))
    assert item.status == "broken" and "4 processes (PMI_SIZE) but MPI sees 1 rank" in item.text and item.remedy
    assert doctor.status([item]) == 6
    assert ranks.launch(4, (4, "PMI_SIZE")).status == ranks.launch(1, None).status == "ok"


def test_threads_and_masks():
    apart = [Host("n1", [0, 1], 2, "ext4", True), Host("n1", [2, 3], 2, "ext4", True)]
    assert ranks.threads(apart) == ("threads", "ok", "2 threads per rank; n1: 4 cores for 2 ranks", "")
    shared = [Host("n1", [0, 1, 2, 3], 2, "ext4", True)] * 2
    assert ranks.threads(shared).status == "note" and "ranks share cores" in ranks.threads(shared).text
    crowd = [*apart, *[Host("n2", [0], 1, "ext4", True)] * 2]
    assert ranks.threads(crowd).status == "warning" and "2 ranks share 1 core on n2" in ranks.threads(crowd).text
    assert ranks.hosts(crowd).text == "4 ranks on 2 hosts (n1: 2, n2: 2)"


def test_file_systems(tmp_path):
    assert storage.file_system(tmp_path)[0] != "unknown" or not os.path.exists("/proc/mounts")
    for path, kind in {"/": "ext4", "/home/me": "nfs4", "/home/my disk/a": "xfs", "/homes": "ext4"}.items():
        assert storage.file_system(storage.Path(path), MOUNTS)[0] == kind


def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    assert storage.cached(tmp_path, [("n1", "ext4", True), ("n2", "xfs", True)]).status == "ok"
    served = storage.cached(tmp_path, [("n1", "ext4", True), ("n2", "nfs4", True)])
    assert served.status == "warning" and "MPILOCAL_CACHE" in served.remedy
    assert "cannot be written on n2" in storage.cached(tmp_path, [("n1", "ext4", True), ("n2", "ext4", False)]).text
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert storage.cached(tmp_path, [("n1", "ext4", True)]).status == "warning"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (item,) = storage.folder(tmp_path / "file" / "below")
    assert item.status == "broken" and "cannot be written" in item.text and doctor.status([item]) == 4


def test_locks_that_do_not_hold(tmp_path, monkeypatch):
    def refuse(file, kind):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(storage.fcntl, "flock", lambda file, kind: None)
    assert storage.folder(tmp_path)[1].status == "warning"
    monkeypatch.setattr(storage.fcntl, "flock", refuse)
    assert "no file locks: Function not implemented" in storage.folder(tmp_path)[1].text


def test_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert software.gpus().status == "note"
    tool = tmp_path / "nvidia-smi"
    for body, status, text in [("echo 'A100, 40960 MiB, 550'", "ok", "A100"), ("exit 9", "note", "CalledProcessError")]:
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
        item = software.gpus()
        assert item.status == status and text in item.text


@pytest.mark.parametrize("count", [1, 2])
def test_command(count, mpiexec, tmp_path):
    done = mpiexec(count, "doctor", "--json", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    found = {item["name"]: item for item in said["items"]}
    assert said["status"] == 0 and found["launch"]["text"].startswith(f"{count} rank")
    assert "thread level multiple" in found["MPI"]["text"]
