"""PyTorch's HierarchicalModelAverager beside `[[levels]]`, on the same gradients; skipped where there is no torch.

Its counter starts at 0 and is looked at before it is advanced: it averages all after the first optimiser step, then
after P + 1, 2P + 1, … So its iterates after step t + 1 are those of H-SGD after step t, started at its first average.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import naive
import naive_levels
import numpy as np
import pytest
import ranks
from numpy.typing import NDArray

import mpilocal

Array = NDArray[np.float64]
WORKERS, ROWS, FEATURES, STEP = 8, 5, 4, 0.05

PEER = """
import collections, json, os, sys, warnings
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.algorithms.model_averaging.hierarchical_model_averager import HierarchicalModelAverager

warnings.simplefilter("ignore")
folder, steps, lr, periods = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])


def work(rank, world):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    averager = HierarchicalModelAverager(collections.OrderedDict(periods), warmup_steps=0)
    with np.load(f"{folder}/data.npz") as data:
        x = torch.from_numpy(np.split(data["x"], world)[rank])
        y = torch.from_numpy(np.split(data["y"], world)[rank])
    w = torch.nn.Parameter(torch.zeros(x.shape[1], dtype=torch.float64))
    optimiser = torch.optim.SGD([w], lr=lr)
    seen = []
    for _ in range(steps):
        optimiser.zero_grad()
        (0.5 * (x @ w - y) ** 2).mean().backward()
        optimiser.step()
        averager.average_parameters([w])
        seen.append(w.detach().numpy().copy())
    np.save(f"{folder}/rank-{rank}.npy", np.array(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    world = dict(periods)[max(dict(periods))]
    mp.start_processes(work, args=(world,), nprocs=world, start_method="fork")
"""


def averager(folder: Path, steps: int, periods: list[tuple[int, int]]) -> Array:
    """The iterates (steps, workers, features) of PyTorch's averager after every optimiser step from 0."""
    (folder / "peer.py").write_text(PEER)
    command = [sys.executable, str(folder / "peer.py"), str(folder), str(steps), str(STEP), json.dumps(periods)]
    done = ranks.run(command, timeout=200)
    assert done.returncode == 0, done.stderr
    return np.stack([np.load(folder / f"rank-{rank}.npy") for rank in range(WORKERS)], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("periods", [[(2, 4), (6, 8)], [(1, 2), (2, 4), (4, 8)]], ids=["two", "three"])
def test_the_averager_of_pytorch(periods: list[tuple[int, int]], tmp_path: Path) -> None:
    """Every worker's iterate after every step; 1e-13 apart, since sums are rounded in another order."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((WORKERS * ROWS, FEATURES)), rng.standard_normal(WORKERS * ROWS)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    steps = 14
    theirs = averager(tmp_path, steps + 1, periods)

    start = STEP * (x.T @ y) / len(y)  # one step from 0, averaged over all
    np.testing.assert_allclose(theirs[0], np.tile(start, (WORKERS, 1)), rtol=0, atol=1e-14)
    # The squared loss at start + w is the squared loss at w of the rows (a_i, y_i − ⟨a_i, start⟩).
    np.savez(tmp_path / "shifted.npz", x=x, y=y - x @ start)
    levels = [{"group": group if group < WORKERS else "world", "period": period} for period, group in periods]
    table = {
        "data": {"source": str(tmp_path / "shifted.npz")},
        "problem": {"loss": "squared"},
        "workers": {"count": WORKERS},
        "algorithm": {"rounds": steps, "local_steps": 1, "batch": "all", "step_size": STEP},
        "levels": levels,
        "output": {"checkpoint_every": 1, "keep": steps + 1},
        "run": {"threads": 1},
    }
    mpilocal.run(table, output=tmp_path / "run")
    workers = [
        naive.Worker(m, x[part], (y - x @ start)[part], 1 / WORKERS)
        for m, part in enumerate(naive.blocks(len(y), WORKERS))
    ]
    plan = naive.Plan(range(steps + 1), lambda t: STEP)
    model, zero = naive.Model("squared"), np.zeros((1, FEATURES))
    tree = naive_levels.Cascade(levels, WORKERS)
    rounds = naive_levels.hierarchical_sgd(model, workers, naive.Sampling(0, "all"), plan, zero, tree)
    for t, known in enumerate(rounds):
        with h5py.File(tmp_path / "run" / "checkpoints" / f"round-{t:08}.h5", "r", locking=False) as file:
            ours = np.broadcast_to(file["state/x"][:], (WORKERS, FEATURES))
        np.testing.assert_allclose(start + ours, theirs[t], rtol=0, atol=1e-13)
        np.testing.assert_allclose(start + np.concatenate(known.x), theirs[t], rtol=0, atol=1e-13)
    assert len(np.unique(theirs[1], axis=0)) > 1  # t = 1: not all average, as they did after the first step
