"""Synthetic laws with a known answer: separable data with their max-margin vector, quadratics."""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from mpilocal.data.laws import AtLeastZero, Count, Known, Seed
from mpilocal.data.rows import Rows, block
from mpilocal.errors import ConfigError


class Separable(Struct, frozen=True, kw_only=True):
    """Linearly separable points whose max-margin vector is e₁, with unique duals.

    Support vectors a_j = e₁ + z_j, z_j ⟂ e₁, with Σ α_j z_j = 0, α_j > 0, Σ α_j = 1, as many as features (so that the
    α are unique); all other points have ⟨e₁, a⟩ ≥ 2.5. A row is y·a with a random label y = ±1. The support vectors are
    spread evenly over the rows: the j-th is the first row of block j of `support` contiguous blocks, so that workers
    differ. Known: svm = e₁ (features,), duals α and support_rows (support,), support_vectors (support, features).

    With `overlap` this is so of the other features. In the last `overlap` ones all rows are Gaussian, and half of those
    that are no support vectors are 0 in the others: with labels at random no hyperplane separates them. Then iterates
    tend to e₁ in the direction of the other features, and to a point in the last ones (Ji and Telgarsky 2019). Known
    besides: separable (features,), 1 in the other features and 0 in the last ones.
    """

    rows: Annotated[Count, Meta(description="Rows.")] = 1000
    features: Annotated[int, Meta(ge=2, description="Features.")] = 10
    seed: Annotated[Seed, Meta(description="Of every draw.")] = 0
    support: Annotated[int, Meta(ge=2)] | None = None
    spread: Annotated[float, Meta(gt=0, description="Standard deviation across e₁.")] = 1.0
    overlap: Annotated[int, Meta(ge=0, description="Features in which rows cannot be separated.")] = 0
    sparse = False

    def prepare(self, draw: np.random.Generator) -> Known:
        """Draw the support vectors."""
        own = self.features - self.overlap
        if own < 2:
            raise ConfigError(
                f"data.options.overlap = {self.overlap} leaves {own} of {self.features} features to separate rows in: "
                "leave 2 at least"
            )
        count = self.support or own
        if count > own:
            raise ConfigError(
                f"data.options.support = {count} exceeds the {own} features: the duals would not be unique"
            )
        if count > self.rows:
            raise ConfigError(f"data.options.rows = {self.rows} cannot hold {count} support vectors: raise rows")
        alpha = draw.uniform(0.5, 1.5, count)
        alpha /= alpha.sum()
        z = np.zeros((count, self.features))
        z[:, 1:own] = self.spread * draw.standard_normal((count, own - 1))
        # Σ α_j z_j = 0 by the last one
        z[-1] = -(alpha[:-1, None] * z[:-1]).sum(axis=0) / alpha[-1]
        z[:, 0] = 1.0
        svm = np.zeros(self.features)
        svm[0] = 1.0
        where = np.array([block(self.rows, count, j)[0] for j in range(count)], np.float64)
        found = {"svm": svm, "duals": alpha, "support_rows": where, "support_vectors": z}
        if self.overlap:
            found["separable"] = (np.arange(self.features) < own).astype(np.float64)
        return found

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Draw rows."""
        a = self.spread * draw.standard_normal((count, self.features))
        a[:, 0] = 2.5 + draw.exponential(1.0, count)
        where = known["support_rows"].astype(np.int64) - first
        here = (where >= 0) & (where < count)
        if self.overlap:
            own = self.features - self.overlap
            last = a[:, own:].copy()
            a[draw.random(count) < 0.5, :own] = 0.0
        a[where[here]] = known["support_vectors"][here]
        if self.overlap:
            a[:, own:] = last
        y = np.where(draw.random(count) < 0.5, 1.0, -1.0)
        return Rows(y, self.features, dense=y[:, None] * a)


class Quadratic(Struct, frozen=True, kw_only=True):
    """Quadratics f_i(x) = ½ Σ_j λ_j x_j² − ⟨b_i, x⟩ with chosen L, µ, σ, ζ, for the loss "quadratic".

    λ is spaced evenly in the logarithm from µ to L. b_i = b̄ + d_g + noise: the noise is Gaussian with E‖noise‖² = σ²;
    g is row i's group of `groups` contiguous blocks of rows, Σ_g d_g = 0 and (1/groups) Σ_g ‖d_g‖² = ζ². The gradient
    at x is λ∘x − b_i, so σ is the noise of a gradient and ζ the heterogeneity of blocks, both everywhere.
    b̄ = λ∘x* with ‖x*‖ = distance. Labels are 0. Known: curvature λ, optimum x* of the law (features,); the mean of the
    b_i drawn differs by its noise; shift d (groups, features).

    With `spectra` group g has curvatures λ_g of its own, b_i = λ_g∘x* + d_g + noise, and a row's label is its group,
    so that data.partition = "label" gives each of so many workers one. Then ζ is the heterogeneity at x*, and known is
    curvature (groups, 2, features), the two below 0 and above being the same.
    """

    rows: Annotated[Count, Meta(description="Rows.")] = 1000
    features: Annotated[Count, Meta(description="Features.")] = 10
    seed: Annotated[Seed, Meta(description="Of every draw.")] = 0
    L: Annotated[float, Meta(gt=0, description="Largest curvature.")] = 1.0
    mu: Annotated[float, Meta(gt=0, description="Smallest curvature.")] = 0.01
    sigma: Annotated[AtLeastZero, Meta(description="Noise of a gradient.")] = 1.0
    zeta: Annotated[AtLeastZero, Meta(description="Heterogeneity of the groups.")] = 0.0
    groups: Annotated[Count, Meta(description="Contiguous blocks of rows with a shift each.")] = 1
    distance: Annotated[AtLeastZero, Meta(description="‖x*‖.")] = 1.0
    spectra: Annotated[
        list[list[Annotated[float, Meta(gt=0)]]] | None,
        Meta(description="Curvatures of each group, in the place of L and mu."),
    ] = None
    sparse = False

    def prepare(self, draw: np.random.Generator) -> Known:
        """Draw x* and the shifts of the groups."""
        if self.spectra is not None and [len(one) for one in self.spectra] != [self.features] * self.groups:
            raise ConfigError(
                f"data.options.spectra must hold {self.groups} lists of {self.features} numbers: one for each group, "
                "a number for each feature"
            )
        if self.mu > self.L:
            raise ConfigError(f"data.options.mu = {self.mu:g} exceeds L = {self.L:g}: it is the smaller one")
        if self.groups > self.rows:
            raise ConfigError(f"data.options.groups = {self.groups} exceeds rows = {self.rows}: each needs a row")
        if self.zeta > 0 and self.groups < 2:
            raise ConfigError(
                f"data.options.zeta = {self.zeta:g} needs groups of at least 2: set groups to the number of workers"
            )
        # one feature alone has the largest curvature
        curvature = np.geomspace(self.mu if self.features > 1 else self.L, self.L, self.features)
        optimum = draw.standard_normal(self.features)
        optimum *= self.distance / np.sqrt(np.sum(optimum**2))
        shift = draw.standard_normal((self.groups, self.features))
        shift -= shift.mean(axis=0)
        norm = np.sqrt(np.sum(shift**2) / self.groups)
        shift *= self.zeta / norm if norm > 0 else 0.0
        if self.spectra is not None:
            curvature = np.repeat(np.array(self.spectra)[:, None], 2, axis=1)
        return {"curvature": curvature, "optimum": optimum, "shift": shift}

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Draw rows."""
        noise = draw.standard_normal((count, self.features)) * (self.sigma / np.sqrt(self.features))
        begins = np.array([block(self.rows, self.groups, g)[0] for g in range(self.groups)])
        group = np.searchsorted(begins, np.arange(first, first + count), side="right") - 1
        curvature = known["curvature"] if self.spectra is None else known["curvature"][group, 0]
        b = curvature * known["optimum"] + known["shift"][group] + noise
        return Rows(np.zeros(count) if self.spectra is None else group.astype(np.float64), self.features, dense=b)


class HardInstance(Struct, frozen=True, kw_only=True):
    """The function of three coordinates on which local steps are biased, for the loss "quadratic".

    f_i(x) = (µ/2)(x₁ − B)² + (L/2)(x₂ − √(µ/L) B)² + (L/8)(x₃² + max(x₃, 0)²) + z_i x₃, without its constant. z_i are
    the quantiles of N(0, σ²) at (i + ½)/rows, scaled to the variance σ²: symmetric, so that x* = (B, √(µ/L) B, 0)
    is exact.

    Woodworth et al. (2020), "Is Local SGD Better than Minibatch SGD?", the proof of Theorem 3; the formula from memory.
    x₃ has twice the curvature above 0 that it has below, so that averaged local iterates drift below; x₁ forbids small
    step sizes and x₂ large ones. Labels are 0. Known: curvature (2, 3), below 0 and above; optimum x* (3,).
    """

    rows: Annotated[int, Meta(ge=2, description="Rows, of which each has its own noise.")] = 4096
    L: Annotated[float, Meta(gt=0, description="H of the paper.")] = 1.0
    mu: Annotated[float, Meta(gt=0, description="λ of the paper.")] = 0.0625
    sigma: Annotated[AtLeastZero, Meta(description="Noise of a gradient.")] = 1.0
    distance: Annotated[AtLeastZero, Meta(description="B.")] = 1.0
    features = 3
    seed = 0
    sparse = False

    def prepare(self, draw: np.random.Generator) -> Known:
        """Work out the optimum and the curvatures."""
        root = np.sqrt(self.mu / self.L)
        law = NormalDist()
        half = np.array([law.inv_cdf((i + 0.5) / self.rows) for i in range(self.rows // 2)])  # below the median
        middle = np.zeros(self.rows % 2)
        noise = np.concatenate([half, middle, -half[::-1]])
        return {
            "curvature": np.array([[self.mu, self.L, self.L / 4], [self.mu, self.L, self.L / 2]]),
            "optimum": self.distance * np.array([1.0, root, 0.0]),
            "noise": self.sigma * noise / np.sqrt(np.mean(noise**2)),
        }

    def make(self, draw: np.random.Generator, first: int, count: int, known: Known) -> Rows:
        """Return rows."""
        b = np.empty((count, 3))
        b[:, :2] = known["curvature"][0, :2] * known["optimum"][:2]
        b[:, 2] = -known["noise"][first : first + count]
        return Rows(np.zeros(count), 3, dense=b)
