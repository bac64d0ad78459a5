"""The config: what a TOML file may say, as frozen structs with their defaults.

The docstrings and the comments behind `Meta(description=…)` are the config reference in the docs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Table = dict[str, Any]


class Data(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the rows come from and which worker holds which."""

    source: Annotated[
        str,
        Meta(
            description="A file (HDF5, .npz, LIBSVM text plain or compressed, IDX or CIFAR-10 images), "
            '"synthetic:NAME" or "sklearn:NAME".'
        ),
    ]
    partition: Annotated[
        str | Table,
        Meta(
            description="Which worker holds which rows: contiguous, iid, shared, label, label-shards, dirichlet, "
            "user; or a table with `kind` and its options; or FILE.py:NAME."
        ),
    ] = "contiguous"
    features: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="The dimension, where the file does not show it.")
    ] = None
    pairs: Annotated[
        Table | None,
        Meta(description="Make of the ten digits 25 tasks of an even and an odd one, with `similarity` from 0 to 1."),
    ] = None
    test: Annotated[str | None, Meta(description="Held-out rows, evaluated where the history is recorded.")] = None
    options: Annotated[Table, Meta(description="Options of the source: see docs/format.md.")] = field(
        default_factory=dict
    )


class Problem(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The objective: F(x) = Σ p_m f_m(x), f_m the mean loss over worker m's rows plus (l2/2)‖x‖²."""

    loss: Annotated[
        str,
        Meta(
            description="logistic, squared, squared-hinge, smooth-hinge, exponential, softmax, quadratic, "
            "or FILE.py:NAME."
        ),
    ] = "logistic"
    l2: Annotated[Annotated[float, Meta(ge=0)] | Literal["1/n"], Meta(description="Ridge weight; n is all rows.")] = 0.0
    intercept: Annotated[bool, Meta(description="Add a column of ones, not regularised.")] = False
    optimum: Annotated[
        Literal["auto"] | float | None,
        Meta(description='F*, so that `suboptimality` is recorded: a number, or "auto" to solve for it once.'),
    ] = None


class Workers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many workers there are; any number of ranks hosts them."""

    count: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["ranks"],
        Meta(description='M; "ranks" makes the result depend on the launch.'),
    ]
    weights: Annotated[Literal["samples", "uniform"], Meta(description="p_m = N_m/N, or p_m = 1/M.")] = "samples"


class Algorithm(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The method and its schedule."""

    name: Annotated[str, Meta(description="A method, such as local-sgd, minibatch-sgd, fedac; or FILE.py:NAME.")] = (
        "local-sgd"
    )
    rounds: Annotated[int, Meta(ge=1, description="R: local phases, each with an averaging after it.")]
    local_steps: Annotated[
        Positive | Table,
        Meta(
            description='H, steps per worker and round; or { kind = "post-local", until = ROUND, steps = H }, '
            '{ kind = "growing", scale = c } (averaging at steps ⌊c j²⌋).'
        ),
    ] = 1
    batch: Annotated[Positive | Literal["all"], Meta(description='b, samples per step; or "all".')] = 1
    step_size: Annotated[
        Annotated[float, Meta(gt=0)] | Table,
        Meta(
            description="A number, or a table with `kind`: constant, inverse-time, inverse-sqrt, stich, piecewise; "
            "any of them with `warmup = STEPS`."
        ),
    ]
    server_step_size: Annotated[
        float,
        Meta(gt=0, description="Outer step η_g: x̄ ← x̄ + η_g (mean − x̄)."),
    ] = 1.0
    inner_step_size: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="η_in of inner/outer step sizes: local steps move by η_in, and the average by `step_size` "
            "times the mean over workers of the sum of their gradients; 0 is minibatch SGD."
        ),
    ] = None
    sampling: Annotated[
        Literal["replacement", "reshuffle"],
        Meta(description="Draw with replacement, or by a fresh permutation of the worker's rows in each epoch."),
    ] = "replacement"
    iterate_average: Annotated[
        str | Table | list[str | Table],
        Meta(
            description="Averages of the iterates over steps to keep and evaluate beside the last: last, uniform, "
            "linear, quadratic, tail; or tables with `kind`."
        ),
    ] = "last"
    start: Annotated[
        Literal["zero", "normal"], Meta(description="x0 = 0, or x0 ~ N(0, I), the same on all workers.")
    ] = "zero"
    options: Annotated[Table, Meta(description="Options of the method itself.")] = field(default_factory=dict)


class Level(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A level of the tree, smallest groups first: workers in a group average every `period` rounds.

    Where several levels are due, only the widest averages. Groups must nest, and each period must divide that of the
    group above. No `[[levels]]` means the world, every round.
    """

    group: Annotated[
        int | str | Table,
        Meta(
            description='Workers per group; "node": those on one host, resolved to sizes at the start; "world"; '
            '{ sizes = [3, 5] }: blocks of unequal sizes; { random = 4, redraw = "every" }: seeded random groups of 4, '
            'drawn afresh at each averaging of the level above, or "once".'
        ),
    ] = "world"
    period: Annotated[
        Positive | list[Positive], Meta(description="In rounds; or a list, one for each group of the level.")
    ] = 1


class Output(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written and how often; round 0 and the last round always are."""

    record_every: Annotated[
        Positive | Table,
        Meta(
            description='Rounds between rows of the history; or { kind = "geometric", ratio = q }, each at least '
            "q times the one before."
        ),
    ] = 1
    checkpoint_every: Annotated[int, Meta(ge=1, description="Rounds between checkpoints.")] = 1000
    keep: Annotated[int, Meta(ge=1, description="Checkpoints kept.")] = 3
    divergence: Annotated[
        bool,
        Meta(description="Measure the divergences of gradients, and the consensus of each level, at recorded rounds."),
    ] = False
    noise: Annotated[
        bool, Meta(description="Measure Σ w_i ‖∇f_i − ∇F‖² over the rows at x̄, the variance of a drawn gradient.")
    ] = False
    risk: Annotated[
        bool, Meta(description="Measure the excess risk, where the data know their law: synthetic:regression.")
    ] = False
    direction: Annotated[
        bool, Meta(description="Measure ‖x̄‖ and how far its direction is from that of the pooled max-margin separator.")
    ] = False
    constants: Annotated[
        bool,
        Meta(
            description="Keep what theory names beside each row: L, µ, ‖x0 − x*‖, and at x* the variance of a drawn "
            "gradient and the divergence."
        ),
    ] = False
    contraction: Annotated[
        bool,
        Meta(
            description="Keep the factor by which a round of local gradient descent on least squares shrinks the error."
        ),
    ] = False
    iterates: Annotated[bool, Meta(description="Write x̄ at every recorded round to iterates.h5.")] = False


class Stop(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to end before the last round: any that holds, at a recorded round, or of `seconds` at an averaging."""

    suboptimality: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="F(x̄) − F* at most this.")] = None
    gradient_norm: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="‖∇F(x̄)‖ at most this.")] = None
    seconds: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="Seconds of the loop.")] = None


class Run(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the run is carried out; nothing here but the seed and the dtype changes the mathematics."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Of every draw.")] = 1
    dtype: Annotated[Literal["float64", "float32"], Meta(description="Of data and iterates.")] = "float64"
    device: Annotated[Literal["cpu"], Meta(description="Where the kernels run.")] = "cpu"
    reduction: Annotated[
        Literal["exact", "allreduce"],
        Meta(description="exact: the same bits on any number of ranks; allreduce: the plain MPI sum."),
    ] = "exact"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="Per rank; default: the cores that the rank may use over the ranks that share them."),
    ] = None
    stall_seconds: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(description="A rank that does not end a round for so long ends the job; 0: never."),
    ] = 300.0


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole run."""

    data: Data
    problem: Problem = Problem()
    workers: Workers
    algorithm: Algorithm
    levels: list[Level] = field(default_factory=list)
    output: Output = Output()
    stop: Stop = Stop()
    run: Run = Run()


def to_builtins(config: Config) -> dict[str, Any]:
    """Return the config as plain dictionaries without the keys that are unset (TOML has no null)."""
    found: dict[str, Any] = _prune(msgspec.to_builtins(config))
    return found


def _prune(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _prune(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_prune(item) for item in value]
    return value
