"""A user's own MPI program: runs that fail on a part of the world while the rest goes on; prints what each rank saw."""

import json
import sys
from pathlib import Path

from mpi4py import MPI
from plugins import running

import mpilocal
from mpilocal.errors import MpilocalError


def attempts(folder: Path):
    """Name, config and output of each run; all but the last one fail."""
    for how in ("raise", "refuse", "full"):
        for part in ("contiguous", "shared"):
            config = running.table("faulty", how=how, worker=0 if how == "full" else 5)
            config["data"]["partition"] = part
            config["output"]["iterates"] = True
            yield f"{how} {part}", config, folder / f"{how}-{part}" if how == "full" else None
    config = running.table()
    config["algorithm"]["step_size"] = 1e200
    yield "diverge", config, folder / "diverge"
    config = running.table()
    config["data"]["source"] = str(folder / "absent")
    yield "absent", config, None
    config = running.table()
    config["problem"]["loss"] = f"{running.PLUGINS / 'faulty.py'}:Uncompilable"
    yield "uncompilable", config, None
    yield "good", running.table(), folder / "good"


def main(folder: Path) -> None:
    world = MPI.COMM_WORLD
    inside = world.rank < 3
    comm = world.Split(int(inside), world.rank)
    said = {}
    for name, config, output in attempts(folder) if inside else ():
        try:
            result = mpilocal.run(config, comm=comm, output=output)
            said[name] = ["", 0, f"{result.status} {result.round}"]
        except MpilocalError as error:
            said[name] = [type(error).__name__, error.status, str(error)]
        if name.startswith("full"):
            unlimit()
    every = world.gather(said)  # those outside have waited here all the while
    if world.rank == 0:
        print(json.dumps(every))


def unlimit() -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


main(Path(sys.argv[1]))
