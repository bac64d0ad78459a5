"""A user's own loss takes the place of this file (see `mpilocal.custom`)."""

from __future__ import annotations

from .compile import kernel


@kernel
def value(z, y, one):
    """Return ℓ(z; y)."""
    return z - z


@kernel
def slope(z, y, one):
    """Return dℓ/dz."""
    return z - z


@kernel
def curvature(z, y, one):
    """Return d²ℓ/dz²."""
    return z - z
