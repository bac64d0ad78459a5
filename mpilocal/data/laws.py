"""Synthetic laws with Gaussian features: a mixture of two half-spaces, linear regression, classification."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from mpilocal.config.typed import shown
from mpilocal.data.pieces import offsets
from mpilocal.data.rows import Rows
from mpilocal.errors import ConfigError

Count = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0)]
AtLeastZero = Annotated[float, Meta(ge=0)]
Known = dict[str, NDArray[np.float64]]
POWER = re.compile(r"\s*i\^-([0-9.]+)(?:\s*log\^-([0-9.]+))?\s*")


def dot(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ⟨x_i, w⟩ of each row, summed in an order that neither BLAS nor its threads choose."""
    out: NDArray[np.float64] = np.sum(x * w, axis=-1)
    return out


def sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1/(1 + e^−z) without overflow."""
    out: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * z))
    return out


def coin(draw: np.random.Generator, probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return +1 with the given probabilities, else −1."""
    return np.where(draw.random(len(probability)) < probability, 1.0, -1.0)


class Mixture(Struct, frozen=True, kw_only=True):
    """P[y = 1 | x] = σ(min{⟨w₁, x⟩ + b₁, ⟨w₂, x⟩ + b₂}), x_j ~ N(0, 10/j²).

    Woodworth et al. (2020), "Is Local SGD Better than Minibatch SGD?", Figure 1: w₁, w₂ ~ N(0, I), b₁, b₂ ~ N(0, 1).
    Known: w1, w2 (features,), b (2,).
    """

    rows: Annotated[Count, Meta(description="Rows.")] = 50000
    features: Annotated[Count, Meta(description="Features.")] = 25
    seed: Annotated[Seed, Meta(description="Of every draw.")] = 0
    variance: Annotated[float, Meta(gt=0, description="Of the first feature; feature j has variance/j².")] = 10.0
    sparse = False

    def prepare(self, draw: np.random.Generator) -> Known:
        """Draw w₁, w₂, b."""
        w = draw.standard_normal((2, self.features))
        return {"w1": w[0], "w2": w[1], "b": draw.standard_normal(2)}

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Draw rows."""
        scale = np.sqrt(self.variance) / np.arange(1, self.features + 1)
        x = draw.standard_normal((count, self.features)) * scale
        z = np.minimum(dot(x, known["w1"]) + known["b"][0], dot(x, known["w2"]) + known["b"][1])
        return Rows(coin(draw, sigmoid(z)), self.features, dense=x)


class Regression(Struct, frozen=True, kw_only=True):
    """Linear regression y = ⟨w*, x⟩ + noise·ε with x ~ N(0, diag(λ)), ε ~ N(0, 1).

    Zou et al. (2021), "Benign Overfitting of Constant-Stepsize SGD for Linear Regression": λ_i = i^−1 log^−2(i + 1) or
    i^−2 and w*_i = i^−1. A sequence is a list, "i^-1 log^-2", "i^-2", or a table: { kind = "power", exponent, log }
    is i^−exponent log^−log(i + 1), { kind = "exponential", rate } is e^(−rate·i), { kind = "single", at, value } is
    value at i = at and else 0. Known: optimum w*, spectrum λ (features,), noise (1,).
    """

    rows: Annotated[Count, Meta(description="Rows.")] = 1000
    features: Annotated[Count, Meta(description="Features.")] = 100
    seed: Annotated[Seed, Meta(description="Of every draw.")] = 0
    spectrum: Annotated[list[float] | str | dict[str, Any], Meta(description="λ, the eigenvalues.")] = "i^-2"
    optimum: Annotated[list[float] | str | dict[str, Any], Meta(description="w*.")] = "i^-1"
    noise: Annotated[AtLeastZero, Meta(description="Standard deviation of the noise.")] = 1.0
    sparse = False

    def prepare(self, draw: np.random.Generator) -> Known:
        """Work out λ and w*."""
        spectrum = sequence(self.spectrum, self.features, "spectrum")
        if spectrum.min() < 0:
            raise ConfigError(f"data.options.spectrum holds {spectrum.min():g}: eigenvalues are at least 0")
        return {
            "spectrum": spectrum,
            "optimum": sequence(self.optimum, self.features, "optimum"),
            "noise": np.array([self.noise]),
        }

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Draw rows."""
        x = draw.standard_normal((count, self.features)) * np.sqrt(known["spectrum"])
        y = dot(x, known["optimum"]) + self.noise * draw.standard_normal(count)
        return Rows(y, self.features, dense=x)


class Classification(Struct, frozen=True, kw_only=True):
    """Gaussian features with labels P[y = 1 | x] = σ(⟨w, x⟩), w scaled so that ⟨w, x⟩ has standard deviation `signal`.

    With density < 1 rows are sparse: each has round(density·features) non-zeros, one drawn from each of so many equal
    strata of the features. Known: truth w (features,).
    """

    rows: Annotated[Count, Meta(description="Rows.")] = 1000
    features: Annotated[Count, Meta(description="Features.")] = 20
    seed: Annotated[Seed, Meta(description="Of every draw.")] = 0
    density: Annotated[float, Meta(gt=0, le=1, description="Share of non-zeros; below 1 rows are sparse.")] = 1.0
    signal: Annotated[AtLeastZero, Meta(description="Standard deviation of the margin.")] = 2.0

    @property
    def sparse(self) -> bool:
        """Whether rows are CSR."""
        return self.density < 1

    @property
    def nonzeros(self) -> int:
        """Non-zeros of a row."""
        return max(1, round(self.density * self.features))

    def prepare(self, draw: np.random.Generator) -> Known:
        """Draw w."""
        w = draw.standard_normal(self.features)
        return {"truth": w * (self.signal / np.sqrt(self.nonzeros))}

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Draw rows."""
        each = self.nonzeros
        x = draw.standard_normal((count, each))
        if not self.sparse:
            y = coin(draw, sigmoid(dot(x, known["truth"])))
            return Rows(y, self.features, dense=x)
        edges = np.arange(each + 1, dtype=np.int64) * self.features // each
        indices = draw.integers(edges[:-1], edges[1:], (count, each))
        y = coin(draw, sigmoid(dot(x, known["truth"][indices])))
        pointers = offsets(np.full(count, each, np.int64))
        return Rows(y, self.features, values=x.ravel(), indices=indices.astype(np.int32).ravel(), indptr=pointers)


class Power(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="power"):
    """i^−exponent log^−log(i + 1)."""

    exponent: float = 1.0
    log: float = 0.0


class Exponential(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="exponential"):
    """e^(−rate·i)."""

    rate: float = 1.0


class Single(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="single"):
    """`value` at i = `at`, else 0."""

    at: Annotated[int, Meta(ge=1)]
    value: float = 1.0


def sequence(given: list[float] | str | dict[str, Any], features: int, name: str) -> NDArray[np.float64]:
    """Return a sequence over i = 1 … features; see `Regression` for what it may be."""
    from mpilocal.config.typed import build

    where = f"data.options.{name}"
    i = np.arange(1, features + 1, dtype=np.float64)
    if isinstance(given, list):
        if len(given) != features:
            raise ConfigError(f"{where} has {len(given)} entries for {features} features: give one for each")
        return np.array(given, np.float64)
    if isinstance(given, str):
        match = POWER.fullmatch(given)
        if match is None:
            raise ConfigError(f'{where} = {shown(given)} is not known: write "i^-2", "i^-1 log^-2", a list or a table')
        law = Power(float(match[1]), float(match[2] or 0))
        return i**-law.exponent * np.log(i + 1) ** -law.log
    kind = given.get("kind")
    if kind == "power":
        law = build(Power, given, where)
        return i**-law.exponent * np.log(i + 1) ** -law.log
    if kind == "exponential":
        return np.exp(-build(Exponential, given, where).rate * i)
    if kind == "single":
        single = build(Single, given, where)
        if single.at > features:
            raise ConfigError(f"{where}.at = {single.at} exceeds the {features} features")
        return np.where(i == single.at, single.value, 0.0)
    raise ConfigError(f'{where}.kind = {shown(kind)} is not known: "power", "exponential" or "single"')
