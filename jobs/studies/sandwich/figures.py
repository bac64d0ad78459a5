"""The study's two figures, from results.h5 alone: the curves, and the sandwich with its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from claims import SCHEMES, bounds, expected, interval, shares, stationarity
from numpy.typing import NDArray
from results import Results
from runs import GLOBAL, GROUPS, LOCAL, WORKERS

from mpilocal import atomic
from mpilocal.errors import ConfigError
from mpilocal.figure import LINES, STYLE, possible

Floats = NDArray[np.float64]
LOCAL_COST, GLOBAL_COST = 1.0, 50.0  # of an averaging, in local steps
SIZE = (7.2, 5.8)  # inches
LABELS = {
    "P = I": f"one level, P = I = {LOCAL}",
    "N = 2": "two levels, N = 2",
    "N = 5": "two levels, N = 5",
    "P = G": f"one level, P = G = {GLOBAL}",
}
DARK, MIDDLE, LIGHT = "#1b1b1b", "#6f6f6f", "#d9d9d9"
WHERE = {
    "digits": "the digits of scikit-learn",
    "mnist": "MNIST",
    "femnist": "FEMNIST, by writer",
}


def draw(found: Results, folder: Path) -> list[Path]:
    """Draw curves and sandwich into a folder, each as PNG and SVG; ConfigError where matplotlib is not installed."""
    if not possible():
        raise ConfigError("the figures need matplotlib: pip install matplotlib, or the extra `plots` of mpilocal")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    files = []
    with rc_context(STYLE):
        for name, fill in (("curves", _curves), ("sandwich", _sandwich)):
            figure = Figure(figsize=SIZE, layout="constrained")
            fill(figure, found)
            for kind, options in (("png", {"dpi": 200}), ("svg", {"metadata": {"Date": None}})):
                file = folder / f"{name}.{kind}"

                def save(path: Path, figure: Any = figure, kind: str = kind, options: Any = options) -> None:
                    figure.savefig(path, format=kind, **options)

                atomic.write(file, save)
                files.append(file)
    return files


def seconds(found: Results, scheme: str) -> Floats:
    """Return the modelled time (records,) in local steps: a worker's steps, and the averagings that it waits for."""
    step, local, globe = (found.mean("groupings", scheme, name) for name in ("step", "local", "globe"))
    time: Floats = step + LOCAL_COST * local + GLOBAL_COST * globe
    return time


def _curves(figure: Any, found: Results) -> None:
    from matplotlib.ticker import StrMethodFormatter

    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for scheme, (colour, dashes, width) in zip(SCHEMES, LINES, strict=False):
        along = [found.mean("groupings", scheme, "step"), seconds(found, scheme)]
        for row, (name, first) in enumerate((("objective", 0), ("accuracy", 1))):  # at w = 0 all classes tie
            values = found.mean("groupings", scheme, name)[first:]
            for panel, x in zip(panels[row], along, strict=True):
                panel.plot(x[first:], values, color=colour, ls=dashes, lw=width, label=LABELS[scheme])
    panels[0, 0].set_ylabel("loss $f(\\bar w)$")
    panels[1, 0].set_ylabel("accuracy on the training rows")
    panels[1, 0].set_xlabel("local steps of each worker")
    panels[1, 1].set_xlabel(
        f"modelled time [local steps], with {LOCAL_COST:g} for\na local and {GLOBAL_COST:g} for a global averaging"
    )
    short, whole = seconds(found, "P = G")[-1], seconds(found, "P = I")[-1]
    panels[0, 1].set_xlim(-0.06 * short, 2.03 * short)
    panels[0, 1].set_title(f"costs are chosen, not measured; P = I ends at {whole:,.0f}", fontsize=8)
    for panel in panels[1]:
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels[0, 0].legend(frameon=False, handlelength=3.2, loc="upper right")
    count = len(found.of("groupings", "N = 2"))
    figure.suptitle(f"{_title(found)}\nN = 2 and N = 5: means over {count} random groupings", fontsize=9)


def _title(found: Results) -> str:
    data = found.facts["data"]
    sort = "sorted by label" if data != "femnist" else "of their own writers"
    return f"H-SGD on {WHERE[data]}: softmax regression, {WORKERS} workers with rows {sort}, I = {LOCAL}, G = {GLOBAL}"


def _sandwich(figure: Any, found: Results) -> None:
    panels = figure.subplots(2, 2)
    _groupings(panels[0, 0], found)
    _bounds(panels[0, 1], found)
    _shares(panels[1, 0], found)
    _others(panels[1, 1], found)
    figure.suptitle(_title(found), fontsize=9)


def _groupings(panel: Any, found: Results) -> None:
    """Draw the final loss of every grouping, and the means with their intervals between the single levels."""
    ends = [float(found.finals("groupings", scheme).mean()) for scheme in ("P = I", "P = G")]
    panel.axhspan(*ends, color="#f0f0f0", lw=0)
    for place, scheme in enumerate(SCHEMES):
        values = found.finals("groupings", scheme)
        spread = 0.30 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        panel.plot(place + spread - 0.12, values, "o", ms=3, mfc="white", mec=MIDDLE, mew=0.7)
        _mean(panel, place + 0.25, values)
    panel.set_xticks(range(len(SCHEMES)), SCHEMES)
    panel.set_xlim(-0.5, len(SCHEMES) - 0.5)
    panel.grid(visible=False, axis="x")
    panel.set_ylabel(f"loss after {int(found.of('groupings')[0].last('step')):,} steps")
    panel.set_title("observed: ○ a run, ◆ mean, 95 % interval", fontsize=8)


def _mean(panel: Any, place: float, values: Floats, along: bool = False) -> None:
    mean = interval(values)
    reach = [[mean.mean - mean.low], [mean.high - mean.mean]]
    point, error = ((mean.mean, place), {"xerr": reach}) if along else ((place, mean.mean), {"yerr": reach})
    panel.errorbar(*point, **error, fmt="D", ms=4, color=DARK, capsize=3, lw=1.2)


def _bounds(panel: Any, found: Results) -> None:
    most = bounds(found)
    seen = [stationarity(found, scheme) for scheme in SCHEMES]
    places = np.arange(len(SCHEMES))
    panel.plot(places, most, "_", ms=22, mew=2, color=DARK, label="bound, its constants from memory")
    panel.plot(places, seen, "o", ms=5, mfc="white", mec=DARK, mew=1.2, label="measured")
    for place, most_here, seen_here in zip(places, most, seen, strict=True):
        for text, value in ((f"{most_here:.3g}", most_here), (f"{seen_here:.5g}", seen_here)):
            panel.annotate(text, (place, value), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    panel.set_yscale("log")
    panel.set_ylim(min(seen) / 2, max(most) * 12)
    panel.set_xticks(places, SCHEMES)
    panel.set_xlim(-0.5, len(SCHEMES) - 0.5)
    panel.grid(visible=False, axis="x")
    panel.set_ylabel("mean of $\\|\\nabla f(\\bar w_t)\\|^2$")
    panel.legend(frameon=False, loc="upper left")
    panel.set_title(
        f"digits, exact gradients, $\\gamma$ = {found.facts['gamma']:.1e} = $1/(2\\sqrt{{6}}\\,GL)$", fontsize=8
    )


def _shares(panel: Any, found: Results) -> None:
    """Draw the parts of the divergence of random groups beside their expectation."""
    names = []
    for place, (groups, side) in enumerate((groups, side) for groups in GROUPS for side in ("upward", "downward")):
        values = shares(found, groups, side)
        spread = 0.30 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
        panel.plot(place + spread - 0.12, values, "o", ms=2, mfc="white", mec=MIDDLE, mew=0.4)
        _mean(panel, place + 0.25, values)
        panel.plot([place - 0.35, place + 0.4], [expected(groups, side)] * 2, color=DARK, ls=(0, (2, 1)), lw=1.2)
        names.append(f"{side}\nN = {groups}")
    panel.set_xticks(range(len(names)), names)
    panel.grid(visible=False, axis="x")
    panel.set_ylim(0, 1)
    panel.set_ylabel("part of the divergence")
    count = len(shares(found, GROUPS[0], "upward"))
    panel.set_title(f"{count} groupings; dashed: expected, $\\frac{{N-1}}{{n-1}}$, $\\frac{{n-N}}{{n-1}}$", fontsize=8)


def _others(panel: Any, found: Results) -> None:
    """Draw the final losses of groups alike and apart, of three levels and of other periods."""
    rows: list[tuple[str, str, str]] = [
        ("alike", "P = I", "P = I, mixed shards"),
        ("alike", "group-IID", "N = 2, group-IID"),
        ("alike", "group-non-IID", "N = 2, group-non-IID"),
        ("alike", "P = G", "P = G, mixed shards"),
        ("three", "P = I", "P = I, n = 20"),
        ("three", "3 levels", "5, 25, 50: n = 20"),
        ("three", "P = G", "P = G, n = 20"),
        ("periods", "G = 25", "N = 2, G = 25"),
        ("groupings", "N = 2", f"N = 2, I = {LOCAL}, G = {GLOBAL}"),
        ("periods", "I = 10", "N = 2, I = 10"),
    ]
    count = len(found.of("periods", "I = 10"))
    height = 0.0
    heights = []
    for number, (part, scheme, _) in enumerate(rows):
        height -= 1.0 + 0.6 * (number in (4, 7))
        values = found.finals(part, scheme)[:count]
        panel.plot(values, np.full(len(values), height), "o", ms=3, mfc="white", mec=MIDDLE, mew=0.7)
        panel.plot(values.mean(), height, "D", ms=4, color=DARK)
        heights.append(height)
    panel.set_yticks(heights, [label for _, _, label in rows], fontsize=7)
    panel.set_xlabel("loss after the same steps")
    panel.set_title(f"observed: ○ a seed of {count}, ◆ mean", fontsize=8)
