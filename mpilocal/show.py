"""What a run is and how it stands: the facts of `mpilocal show`, read from its folder without MPI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpilocal import atomic
from mpilocal.config.structs import Config, to_builtins
from mpilocal.figure import brief
from mpilocal.store import rundir
from mpilocal.tree.levels import resolve

if TYPE_CHECKING:
    from mpilocal.api import Result

Facts = dict[str, Any]
ROUNDING = 1e-15  # of an objective, relative
BOUNDS = ("suboptimality_bound", "suboptimality_certified")


def facts(path: str | Path) -> Facts:
    """Return the facts of a run; see `facts_of`, and with `launches`, the history of who ran it, where and when.

    Raises:
        DataError: there is no run, or its files cannot be read.
    """
    from mpilocal.api import load

    found = facts_of(load(path))
    found["launches"] = rundir.read_run(path).history
    return found


def facts_of(result: Result) -> Facts:
    """Return what a run is and how it stands.

    Returns:
        status, round, rounds, step, reason; objective, suboptimality, gradient_norm, consensus and the other columns
        of the last recorded round (None where not known), recorded_round; suboptimality_certified: F − D̂ ≥ F − F*
        where the dual value D̂ is known; suboptimality_bound: ‖∇F‖²/(2 l2), loose, where l2 > 0 and the optimum is not
        known; workers, ranks, threads; seconds: of the loop, the maximum over ranks, summed over resumes; samples,
        samples_per_second; bytes: of the algorithm's ledger, all levels; levels: the ledger of each; path; config;
        resolved.
    """
    last = {name: column[-1].item() for name, column in result.history.items() if len(column)}
    timings = {name.removeprefix("timings/"): value for name, value in last.items() if name.startswith("timings/")}
    row: Facts = {name: value for name, value in last.items() if "/" not in name and name not in ("round", "samples")}
    for name in ("step", "objective", "suboptimality", "gradient_norm", "consensus"):
        row.setdefault(name, None)
    dual = result.facts.get("optimum_dual")
    certified = None if dual is None or row["objective"] is None else row["objective"] - dual
    levels = _levels(last, result.config, result.facts)
    seconds, samples = timings.get("loop_max", 0.0), last.get("samples", 0)
    return {
        "status": result.status,
        "round": result.round,
        "rounds": result.config.algorithm.rounds,
        "reason": result.reason,
        "recorded_round": last.get("round"),
        **row,
        "suboptimality_bound": _bound(row, result),
        "suboptimality_certified": certified,
        "optimum": result.facts.get("optimum"),
        "workers": result.config.workers.count,
        "ranks": timings.get("ranks", result.facts.get("ranks")),
        "threads": timings.get("threads", result.facts.get("threads")),
        "seconds": seconds,
        "samples": samples,
        "samples_per_second": samples / seconds if seconds else None,
        "bytes": sum(level["bytes"] for level in levels),
        "wire_bytes": timings.get("wire_bytes"),
        "levels": levels,
        "path": None if result.path is None else str(result.path),
        "config": to_builtins(result.config),
        "resolved": result.facts,
    }


def _bound(row: Facts, result: Result) -> float | None:
    """Return ‖∇F‖²/(2 l2) ≥ F − F*, by strong convexity; an intercept is not regularised and has no such bound."""
    l2 = float(result.facts.get("l2", 0.0))
    if row["suboptimality"] is not None or row["gradient_norm"] is None or l2 <= 0 or result.config.problem.intercept:
        return None
    from mpilocal.optimum import loose_bound

    return loose_bound(float(row["gradient_norm"]), l2)


def _levels(last: Mapping[str, Any], config: Config, resolved: Mapping[str, Any]) -> list[dict[str, int | None]]:
    """Return the ledger of each level, and what the closed form expects of it after the recorded rounds.

    Level by level the sum over groups of (⌊R/I_g⌋ − ⌊R/P_above⌋) averagings, each of n_g vectors of dim numbers, or
    of the several that the method says.
    """
    found: list[dict[str, int | None]] = []
    workers, dim = config.workers.count, resolved.get("dim")
    levels = resolve(config.levels, workers, config.run.seed).levels if isinstance(workers, int) else []
    while f"level{len(found) + 1}/averagings" in last:
        name = f"level{len(found) + 1}"
        counts = {key: int(last[f"{name}/{key}"]) for key in ("averagings", "vectors", "bytes")}
        expected = None
        if levels and dim is not None:
            level = levels[len(found)]
            sent = level.averagings(int(last["round"])) * np.where(level.sizes > 1, level.sizes, 0)
            each = dim * resolved.get("vectors", 1) * np.dtype(config.run.dtype).itemsize
            expected = int(sent.sum()) * each
        found.append({**counts, "expected_bytes": expected})
    return found


def ledger(result: Result) -> dict[str, int]:
    """Return the ledger at the last recorded round, as `timing.table` takes it."""
    found = {}
    for number, level in enumerate(facts_of(result)["levels"], 1):
        for name, value in level.items():
            if value is not None:
                found[f"level{number}/{name.removesuffix('_bytes')}"] = value
    return found


def start(config: Config, ranks: int, source: str, path: Path) -> str:
    """Return one line: what a run is about to do, before its data are read; `source` as in `header`."""
    what = source if Path(source) == path else f"{source} → {path}"
    count = ranks if config.workers.count == "ranks" else config.workers.count
    algorithm = config.algorithm
    launch = f"{_many(count, 'worker')} on {_many(ranks, 'rank')}"
    return f"{what}: {algorithm.name}, {_many(algorithm.rounds, 'round')}, {launch}"


def header(config: Config, resolved: Mapping[str, Any], launch: Mapping[str, Any], source: str, path: Path) -> str:
    """Return what a run says at its start."""
    return f"mpilocal {atomic.version()}: {source} → {path}\n" + pairs(_setting(config, resolved, launch), "  ")


def outcome(facts: Mapping[str, Any]) -> str:
    """Return one line: how a run stands."""
    reason = f" ({facts['reason']})" if facts["reason"] else ""
    parts = [f"{facts['status']} at round {facts['round']} of {facts['rounds']}{reason}"]
    if facts["objective"] is not None:
        parts.append(f"objective {facts['objective']:.12g}")
        parts.append(_gap(facts) or f"gradient norm {facts['gradient_norm']:.4g}")
    return ", ".join(parts)


def text(facts: Mapping[str, Any]) -> str:
    """Return the facts for people."""
    config = rundir.read_run(facts["path"]).config
    launch = facts["launches"][-1] if facts["launches"] else {}
    lines = _setting(config, facts["resolved"], launch)
    if launch:
        who = f"{launch.get('user', '?')} on {launch.get('host', '?')}, {launch.get('started', '?')}"
        lines["started"] = who + (f", launch {len(facts['launches'])}" if len(facts["launches"]) > 1 else "")
        lines["versions"] = ", ".join(f"{name} {value}" for name, value in launch.get("versions", {}).items())
    if facts["objective"] is not None:
        at = "" if facts["recorded_round"] == facts["round"] else f" (round {facts['recorded_round']})"
        lines["objective"] = f"{facts['objective']:.15g}{at}"
        if gap := _gap(facts):
            lines["gap"] = gap
        lines["gradient norm"] = f"{facts['gradient_norm']:.6g}"
        for name in sorted(facts):
            if name.startswith(("objective_", "suboptimality_", "accuracy", "test_")) and name not in BOUNDS:
                lines[name.replace("_", " ")] = f"{facts[name]:.6g}"
        lines["steps"] = f"{facts['step']:,} of each worker, {facts['samples']:,} samples of all"
        sent = [f"{level['averagings']:,} averagings, {level['bytes']:,} bytes" for level in facts["levels"]]
        lines["communication"] = "; ".join(sent)
    if facts["samples_per_second"]:
        lines["time"] = f"{facts['seconds']:.4g} s in the loop, {facts['samples_per_second']:.4g} samples/s"
    return f"{facts['path']}: {outcome(facts)}\n{pairs(lines, '  ')}"


def _gap(facts: Mapping[str, Any]) -> str:
    if facts["suboptimality"] is not None:
        return f"suboptimality {facts['suboptimality']:.4e}"
    if facts["suboptimality_bound"] is not None:
        return f"suboptimality at most {facts['suboptimality_bound']:.4e} (the loose bound |gradient|²/(2 l2))"
    return ""


def _setting(config: Config, resolved: Mapping[str, Any], launch: Mapping[str, Any]) -> dict[str, str]:
    """Return what is solved, how, and on what."""
    data, algorithm, l2 = config.data, config.algorithm, config.problem.l2
    lines = {"data": data.source}
    if "rows" in resolved:
        kind = "sparse" if resolved.get("sparse") else "dense"
        lines["data"] += f": {resolved['rows']:,} rows × {resolved.get('features', 0):,} features, {kind}"
    lines["data"] += f", partition {brief(data.partition)}"
    if labels := resolved.get("labels"):
        some = [f"{key} → {value:+d}" if len(labels) == 2 else f"{key} → {value}" for key, value in labels.items()]
        lines["labels"] = ", ".join(some[:10]) + (", …" if len(some) > 10 else "")
    value = f" = {resolved['l2']:.6g}" if isinstance(l2, str) and "l2" in resolved else ""
    lines["problem"] = f"{config.problem.loss}, l2 = {l2}{value}" + (
        ", with an intercept" if config.problem.intercept else ""
    )
    if (optimum := _optimum(config, resolved)) is not None:
        lines["optimum"] = optimum
    lines["method"] = (
        f"{algorithm.name}, {brief(algorithm.local_steps)} local steps of batch {algorithm.batch}, "
        f"step size {brief(algorithm.step_size)}"
    )
    if config.levels:
        each = (f"{_group(level.group)} {_every(level.period)}" for level in config.levels)
        lines["levels"] = "; ".join(each)
    lines["workers"] = str(config.workers.count)
    if launch:
        lines["workers"] += f" on {_many(launch['ranks'], 'rank')} × {_many(launch['threads'], 'thread')}"
        lines["workers"] += f", {_many(launch['hosts'], 'host')}"
    return lines


def _group(group: int | str | dict[str, Any]) -> str:
    if isinstance(group, int):
        return f"groups of {group}"
    if isinstance(group, str):
        return group
    if "random" in group:
        return f"random groups of {group['random']}" + (", drawn once," if group.get("redraw") == "once" else "")
    return f"groups of {brief(group['sizes'])}"


def _every(period: int | list[int]) -> str:
    return "every round" if period == 1 else f"every {brief(period)} rounds"


def _optimum(config: Config, resolved: Mapping[str, Any]) -> str | None:
    note = resolved.get("optimum_note", "")
    if "optimum" not in resolved:
        return None if config.problem.optimum is None else f"not known{note and f': {note}'}"
    said = f"{resolved['optimum']:.15g}"
    if isinstance(config.problem.optimum, float):
        return f"{said}, given"
    if not resolved.get("optimum_attained", True):
        said += ", not attained"
    if "optimum_gradient_norm" in resolved:
        said += f", where the gradient norm is {resolved['optimum_gradient_norm']:.2g}"
    if "optimum_dual" in resolved:
        within = max(resolved["optimum"] - resolved["optimum_dual"], ROUNDING * max(1.0, abs(resolved["optimum"])))
        said += f"; certified to {within:.1g}"
    return f"{said}{note and f' ({note})'}"


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def pairs(table: Mapping[str, str], indent: str = "") -> str:
    """Return `key  value` lines, aligned."""
    width = max(map(len, table), default=0)
    return "\n".join(f"{indent}{key:<{width}}  {value}" for key, value in table.items())
