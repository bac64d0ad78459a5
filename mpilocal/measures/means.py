"""Means over the workers: of a number, of a distance, of the iterates' spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpilocal.exact import SMALL, SmallSum, StreamSum
from mpilocal.kernels.cpu import vector
from mpilocal.tree import Tree

Array = NDArray[np.floating]


class Mean:
    """Σ p_m v_m over all workers, exactly added."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._tree = tree
        self._total = np.empty(1)
        self._sum: SmallSum | StreamSum
        kind = SmallSum if tree.workers <= SMALL else StreamSum
        self._sum = kind(1, tree.workers, tree.threads)

    def __call__(self, values: Array) -> float:
        """Return it for the numbers of the workers here (workers here,); collective."""
        tree, rows = self._tree, values.reshape(-1, 1)
        if isinstance(self._sum, SmallSum):
            self._sum.reduce(tree.comm, rows, tree.weights, 1.0, self._total)
        else:
            self._sum.add(rows, tree.weights)
            self._sum.reduce(tree.comm, 1.0, self._total)
        return float(self._total[0])


class Spread:
    """Σ p_m ‖x_m − c_m‖² over all workers, exactly added."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._tree = tree
        self._out = np.empty(tree.count)
        self._mean = Mean(tree)

    def __call__(self, x: Array, center: Array) -> float:
        """Return it for the rows x (workers here, dim); `center` is one for all (dim,), or one each; collective."""
        tree = self._tree
        kernel = vector.distances if center.ndim == 1 else vector.distances_each
        tree.threads.run(kernel, tree.count, (x, center, self._out))
        return self._mean(self._out)


class Consensus:
    """Σ p_m ‖x_m − x̄‖² over all workers."""

    def __init__(self, tree: Tree) -> None:
        """Make the buffers."""
        self._spread = Spread(tree)

    def __call__(self, tree: Tree, x: Array) -> float:
        """Return the consensus of the rows x (workers here, dim); collective."""
        if tree.workers == 1:
            return 0.0
        if tree.stream is not None and x is tree.stream.x:
            tree.finish_stream(tree.stream)
            return tree.stream.consensus()
        if tree.equal(x):
            return 0.0
        return self._spread(x, tree.average(x))
