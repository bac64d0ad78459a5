"""What a resume may change: rounds, output, criteria to stop, threads and device; nothing of the mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpilocal.config import kinds
from mpilocal.config.typed import shown
from mpilocal.errors import ConfigError

MEASURES = ("divergence", "noise", "direction", "risk", "constants", "contraction")
FIXED = tuple(f"output.{name}" for name in MEASURES)  # the history has their columns, or has not
ALLOWED = ("algorithm.rounds", "output.", "stop.", "run.threads", "run.device", "run.stall_seconds")


def check(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse any other difference between two configs, as plain dictionaries.

    Raises:
        ConfigError: it names the key and both values.
    """
    for key, old, new in differences(before, after):
        if not key.startswith(ALLOWED) or key in FIXED:
            raise ConfigError(
                f"{key} was {shown(old)} and cannot become {shown(new)} at a resume, which may change only rounds, "
                "output.* but what is measured, stop.*, threads and device: start another run"
            )
        if key == "algorithm.rounds" and looks_ahead(before["algorithm"]):
            raise ConfigError(
                f"algorithm.rounds was {old} and cannot become {new}: the tail average, or the automatic shift of the "
                "step size under changing intervals, depends on the last round; start another run"
            )


def looks_ahead(algorithm: dict[str, Any]) -> bool:
    """Return whether step sizes or weights depend on the number of rounds."""
    averages = kinds.parse_iterate_average(algorithm.get("iterate_average", "last"))
    if any(isinstance(average, kinds.Tail) for average in averages):
        return True
    step_size = kinds.parse_step_size(algorithm["step_size"])
    changing = not isinstance(kinds.parse_local_steps(algorithm.get("local_steps", 1)), kinds.FixedSteps)
    return isinstance(step_size, kinds.InverseTime) and step_size.shift == "auto" and changing


def differences(before: Any, after: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old, new) of every leaf that differs; None where there is none."""
    if isinstance(before, dict) and isinstance(after, dict) and at != "data.options":
        for key in sorted({*before, *after}):
            yield from differences(before.get(key), after.get(key), f"{at}.{key}" if at else key)
    elif before != after:
        yield at, before, after
