"""A run's folder on root: its lock, its config.toml with the history of who ran it, and its status.

Readers need neither the lock nor MPI, and may come while the run lives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from mpilocal import atomic
from mpilocal.config import toml
from mpilocal.config.structs import Config
from mpilocal.errors import ConfigError, DataError, MpilocalError
from mpilocal.store import checkpoint, lock, provenance, record

Status = Literal["running", "done", "stopped", "diverged", "failed", "interrupted"]

_CONFIG = "config.toml"


class Recorded(NamedTuple):
    """What a run's config.toml says."""

    config: Config
    resolved: dict[str, Any]
    history: list[dict[str, Any]]  # one entry per run or resume, oldest first


class RunDir:
    """A run's folder, held by this process until `close` or its death."""

    def __init__(self, path: Path, held: int) -> None:
        self.path = path
        self._lock = held
        self._recorded: Recorded | None = None
        atomic.sweep(path)
        atomic.sweep(self.checkpoints)

    @property
    def history(self) -> Path:
        """The path of history.h5."""
        return self.path / "history.h5"

    @property
    def iterates(self) -> Path:
        """The path of iterates.h5."""
        return self.path / "iterates.h5"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @classmethod
    def create(cls, path: str | Path) -> RunDir:
        """Make the folder, if need be, and hold it for a new run.

        Raises:
            ConfigError: it holds a run already, or is not a folder.
            LaunchError: another process holds it.
            DataError: it cannot be made.
        """
        path = Path(path).absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{path} is not a folder: name another one with -o") from error
        except OSError as error:
            raise DataError(f"cannot make the folder {path}: {error.strerror}; name another one with -o") from error
        held = lock.hold(path)
        if holds_run(path):
            os.close(held)
            raise ConfigError(
                f"{path} holds a run: continue it with `mpilocal resume` or `run --or-resume`, or name another with -o"
            )
        return cls(path, held)

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """Hold the folder of an earlier run, to resume it.

        Raises:
            DataError: there is no run.
            LaunchError: another process holds it.
        """
        path = Path(path).absolute()
        _require(path)
        return cls(path, lock.hold(path))

    @property
    def unbegun(self) -> bool:
        """Whether there is nothing to resume and nothing to lose: the run ended before its first checkpoint."""
        if checkpoint.listed(self.checkpoints):
            return False
        return not self.history.exists() or int(record.read_history(self.history)["round"].max(initial=0)) == 0

    @property
    def ended(self) -> str:
        """The status with which the run last ended, or an empty string."""
        history = read_run(self.path).history if holds_run(self.path) else []
        return str(history[-1].get("status", "")) if history else ""

    def write_config(self, config: Config, resolved: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        """Write config.toml with `[resolved]` and the history of earlier entries followed by `entry`.

        See `provenance.entry`; an earlier entry that never ended was interrupted.

        Raises:
            DataError: it cannot be written.
        """
        earlier = read_run(self.path).history if holds_run(self.path) else []
        ended = [one if one.get("status") else {**one, "status": "interrupted"} for one in earlier]
        self._recorded = Recorded(config, dict(resolved), [*ended, dict(entry)])
        self._save()

    def finish(self, status: Status, round: int, message: str = "") -> None:
        """Say in the last entry of the history how the run ended, and at which round."""
        if self._recorded is None:
            raise RuntimeError("finish comes after write_config")
        self._recorded.history[-1].update(ended=provenance.now(), status=status, round=round, message=message)
        self._save()

    def _save(self) -> None:
        assert self._recorded is not None
        config, resolved, history = self._recorded
        text = toml.dump(config, {"resolved": resolved, "history": history})
        atomic.write(self.path / _CONFIG, lambda path: path.write_bytes(text.encode(errors="replace")))

    def close(self) -> None:
        """Let the folder go."""
        if self._lock >= 0:
            os.close(self._lock)  # and with it the lock
            self._lock = -1

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def holds_run(path: str | Path) -> bool:
    """Return whether a folder holds a run: a config.toml, a history or a checkpoint."""
    path = Path(path)
    return any((path / name).exists() for name in (_CONFIG, "history.h5")) or any(path.glob("checkpoints/round-*.h5"))


def read_run(path: str | Path) -> Recorded:
    """Return a run's config, what it was resolved to, and its history; also while the run lives.

    Raises:
        DataError: there is no run, or its config.toml cannot be read.
    """
    _require(Path(path))
    file = Path(path) / _CONFIG
    try:
        table = toml.read(file)
        return Recorded(
            toml.convert({key: value for key, value in table.items() if key not in toml.RECORDED}),
            dict(table.get("resolved", {})),
            [dict(one) for one in table.get("history", [])],
        )
    except (MpilocalError, TypeError, ValueError) as error:
        raise DataError(f"the run {path} has no usable {_CONFIG} ({error}): restore the file") from error


def status(path: str | Path) -> Status:
    """Return how a run stands: running while a process holds its folder, else how its last entry ended.

    Raises:
        DataError: there is no run.
    """
    path = Path(path)
    if lock.held(path):
        return "running"
    history = read_run(path).history
    said: Status = history[-1].get("status", "interrupted") if history else "interrupted"
    return said


def _require(path: Path) -> None:
    if not holds_run(path):
        raise DataError(
            f"there is no run in {path}: name the folder of one, or start one with `mpilocal run -o {path}`"
        )
