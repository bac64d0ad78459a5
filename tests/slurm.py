"""Several hosts on one machine: a real SLURM of two nodes, or hosts that a launcher is made to believe in.

The fixture `slurm` runs munged, slurmctld and a slurmd for each of the nodes n1 and n2, with a configuration, a key and
ports of their own, so that a SLURM of the machine is not touched. It needs root and Debian's slurm-wlm and munge.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import ranks

NODES = ("n1", "n2")
NEEDED = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "scancel", "squeue", "sinfo")
START = 30.0  # seconds in which the nodes must be idle
END = 15.0  # seconds in which jobs, and then daemons, must be gone

# Two nodes share one munged, so each sees the credentials of the other as replayed: slurmd -N allows for that.
# cred_expire: a job that is requeued waits for so long before it starts again.
CONF = """\
ClusterName=mpilocal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Missing(Exception):
    """Why there is no SLURM here."""


class Ended(NamedTuple):
    """A batch job that is over: SLURM's word for it, its exit status, and how often it was started again."""

    state: str
    status: int
    restarts: int


class Slurm:
    """A running cluster; `conf` is its slurm.conf."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self.env = {"SLURM_CONF": str(conf)}

    def srun(
        self,
        args: Sequence[str | os.PathLike[str]],
        ntasks: int,
        nodes: int,
        timeout: float = 120,
        options: Sequence[str] = ("--mpi=pmi2",),
    ) -> subprocess.CompletedProcess[str]:
        """Run `srun -n NTASKS -N NODES ARGS`; past `timeout` seconds the test fails."""
        command = ["srun", *options, f"--ntasks={ntasks}", f"--nodes={nodes}", *map(os.fspath, args)]
        return ranks.run(command, timeout=timeout, env=self.env)

    def sbatch(self, script: Path) -> int:
        """Submit a batch script and return the job's id; its output is appended to the script's name with .out."""
        where = [f"--chdir={script.parent}", f"--output={script.with_suffix('.out')}", "--open-mode=append"]
        return int(self.call("sbatch", "--parsable", *where, str(script)).partition(";")[0])

    def wait(self, job: int, timeout: float = 120) -> Ended:
        """Wait for the end of a batch job, also over requeues; past `timeout` seconds cancel it and fail the test."""
        deadline = time.monotonic() + timeout
        while (ended := self.ended(job)) is None:
            if time.monotonic() > deadline:
                told = self.told(job)
                self.call("scancel", str(job))
                pytest.fail(f"job {job} took more than {timeout} s: {told}", pytrace=False)
            time.sleep(0.1)
        return ended

    def until(self, ready: Callable[[], bool], job: int, timeout: float = 60) -> None:
        """Wait for something that a batch job does; past `timeout` seconds, or if the job ends, fail the test."""
        deadline = time.monotonic() + timeout
        while not ready():
            assert time.monotonic() < deadline and self.ended(job) is None, self.told(job)
            time.sleep(0.05)

    def ended(self, job: int) -> Ended | None:
        """How a job ended; None while it waits or runs."""
        facts = self.facts(job)
        if facts["JobState"] in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"):
            return None
        return Ended(facts["JobState"], int(facts["ExitCode"].partition(":")[0]), int(facts["Restarts"]))

    def told(self, job: int) -> str:
        """How a job stands and what it has written so far."""
        facts = self.facts(job)
        out = Path(facts["StdOut"])
        return f"{facts['JobState']} {facts['ExitCode']} {out.read_text() if out.exists() else 'has written nothing'}"

    def facts(self, job: int) -> dict[str, str]:
        """What SLURM knows of a job."""
        words = shlex.split(self.call("scontrol", "show", "job", "--oneliner", str(job)))
        return {key: value for key, equals, value in (word.partition("=") for word in words) if equals}

    def call(self, *command: str) -> str:
        """Run a command of SLURM and return what it prints; a failure fails the test."""
        done = ranks.run(list(command), timeout=60, env=self.env)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def idle(self) -> bool:
        """Whether both nodes have come and are free."""
        done = ranks.run(["sinfo", "--noheader", "--Node", "--format=%N %t"], timeout=60, env=self.env)
        return sorted(done.stdout.split("\n")[:-1]) == [f"{node} idle" for node in NODES]

    def left(self) -> list[int]:
        """The processes of this cluster and its jobs: all inherit the name of its slurm.conf."""
        mark, found = f"SLURM_CONF={self.conf}".encode(), []
        for file in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in file.read_bytes().split(b"\0"):
                    found.append(int(file.parent.name))
            except OSError:
                continue
        return sorted(found)


@contextmanager
def cluster() -> Iterator[Slurm]:
    """Start a SLURM of two nodes and end it with all its jobs.

    Raises:
        Missing: it cannot run here; the reason.
    """
    _check()
    with ExitStack() as stack:
        # A short path, since a socket lies in it, that jobs can enter.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpilocal-slurm-")))
        folder.chmod(0o755)
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(host=socket.gethostname().partition(".")[0], ports=_ports(3), folder=folder))
        slurm = Slurm(conf)
        daemons: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(_stop, slurm, daemons)
        own = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        daemons["munged"] = _start(
            slurm,
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={own['socket']}"),
            *(f"--pid-file={own['pid']}", f"--log-file={own['log']}", f"--seed-file={own['seed']}"),
        )
        _until(own["socket"].exists, daemons, folder, "munged has no socket")
        daemons["slurmctld"] = _start(slurm, "slurmctld", "-D")
        for node in NODES:
            daemons[f"slurmd {node}"] = _start(slurm, "slurmd", "-D", "-N", node)
        _until(slurm.idle, daemons, folder, "the nodes do not become idle")
        yield slurm


@pytest.fixture(scope="session", name="slurm")
def slurm_of_two_nodes() -> Iterator[Slurm]:
    """A `Slurm` of two nodes of two processors each, n1 and n2; skipped where it cannot run."""
    with ExitStack() as stack:
        try:
            slurm = stack.enter_context(cluster())
        except Missing as reason:
            pytest.skip(f"no SLURM of two nodes: {reason}")
        yield slurm


class Fake(NamedTuple):
    """What to add to mpiexec's arguments and environment, so that its ranks see several hosts."""

    args: list[str]
    env: dict[str, str]


def fake_nodes(mpi: str, count: int, folder: Path, interleaved: bool = False) -> tuple[Fake | None, str]:
    """Return how `mpiexec` makes the ranks of one machine believe in `count` hosts, or None and why it cannot.

    Args:
        mpi: "mpich" or "openmpi".
        count: Hosts.
        folder: Where a script may be written.
        interleaved: Deal the ranks out to the hosts in turn, not in blocks.
    """
    if mpi == "mpich":
        return Fake(
            [], {"MPIR_CVAR_NUM_CLIQUES": str(count), "MPIR_CVAR_CLIQUES_BY_BLOCK": str(int(not interleaved))}
        ), ""
    if mpi != "openmpi":
        return None, f"{mpi} is neither mpich nor openmpi"
    # Open MPI asks its daemons where they are. Its remote shell is replaced by one that changes only the host's name.
    probe = subprocess.run(["unshare", "--uts", "hostname", "fake"], capture_output=True, text=True)
    if probe.returncode:
        return None, f"Open MPI's hosts need a name of their own, and `unshare --uts` says: {probe.stderr.strip()}"
    agent = folder / "agent"
    agent.write_text(
        '#!/bin/sh\nexec unshare --uts sh -c \'hostname "$1" && shift && exec sh -c "$*"\' sh "$@"\n', encoding="ascii"
    )
    agent.chmod(0o755)
    hosts = ",".join(f"host{number}:2" for number in range(count))
    policy = "node" if interleaved else "slot"
    env = {"PRTE_MCA_plm_ssh_agent": str(agent), "OMPI_MCA_btl_tcp_if_include": "lo"}
    return Fake(["--host", hosts, "--map-by", f"{policy}:oversubscribe"], env), ""


def _check() -> None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise Missing(f"{', '.join(missing)} not found (Debian, Ubuntu: apt install slurm-wlm munge)")
    if os.geteuid() != 0:
        raise Missing("slurmd starts jobs as root only")
    if "SLURM_JOB_ID" in os.environ:
        raise Missing("this is a job of another SLURM")


def _ports(count: int) -> list[int]:
    """Free ports: nobody keeps them until the daemons take them, but they are handed out in turn."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def _start(slurm: Slurm, *command: str) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground of a session of its own; it ends with this process at the latest."""
    bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return subprocess.Popen([*bound, *command], env=ranks.unlaunched() | slurm.env, start_new_session=True, **streams)


def _until(ready: Callable[[], bool], daemons: dict[str, subprocess.Popen[bytes]], folder: Path, what: str) -> None:
    deadline = time.monotonic() + START
    while not ready():
        dead = [name for name, daemon in daemons.items() if daemon.poll() is not None]
        if dead or time.monotonic() > deadline:
            logs = [log.read_text(errors="replace")[-600:] for log in sorted(folder.glob("*.log"))]
            raise Missing("\n".join([f"{', '.join(dead)} ended" if dead else f"{what} in {START:.0f} s", *logs]))
        time.sleep(0.05)


def _stop(slurm: Slurm, daemons: dict[str, subprocess.Popen[bytes]]) -> None:
    """Cancel the jobs, end the daemons, the last one first, and then whatever is left."""

    def quiet(*command: str) -> str:
        return subprocess.run(command, env=os.environ | slurm.env, capture_output=True, text=True, timeout=60).stdout

    if len(daemons) == 2 + len(NODES):
        quiet("scancel", "--user=root")
        deadline = time.monotonic() + END
        while quiet("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.1)
    for daemon in reversed(daemons.values()):
        daemon.terminate()
        try:
            daemon.wait(END)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    for process in slurm.left():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
