"""The tree of workers: levels of groups, the communicators that hold them, and their means.

`levels` is the nesting as numbers and `draw` the random groups; `mean` is one group's mean over ranks; `fixed` and
`drawn` average the groups of a level; `nodes` finds the hosts; `tree` puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpilocal.tree.tree import Tree

__all__ = ["Tree"]


def __getattr__(name: str) -> Any:
    """Import on first use: who asks for numbers only need not wait for compilers."""
    if name == "Tree":
        from mpilocal.tree.tree import Tree

        return Tree
    raise AttributeError(f"module 'mpilocal.tree' has no attribute '{name}'")
