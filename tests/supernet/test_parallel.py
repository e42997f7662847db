"""Several processes train what one process does."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError
from nas.supernet.group import Group, part_of

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
TASK = nas.Task.of((X, X[:, :2] * X[:, 2:4]), (X, X[:, :2] * X[:, 2:4]), metric="mse")
KNOBS = {"steps": 12, "batch_size": 30, "checkpoint_every": 3, "ema": 0.5}


def mlp(trial):
    width = trial.suggest_int("width", 8, 24, step=8)
    return nn.Sequential(nn.Linear(6, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 2))


def trained(task=TASK, **changes):
    supernet = nas.Supernet(nas.SearchSpace(mlp))
    history = nas.train(supernet, task, **{**KNOBS, **changes})
    return supernet, history


def test_the_parts_of_a_batch_are_the_batch():
    batch = ({"x": X[:7]}, X[:7, 0])
    for size in (1, 2, 3):
        parts = [Group(rank, size).share(batch) for rank in range(size)]
        assert torch.equal(torch.cat([p[0]["x"] for p in parts]), X[:7])
        assert sum(Group(rank, size).weight(batch) for rank in range(size)) == pytest.approx(1)
    assert torch.equal(part_of(X, (1, 4)), X[24:48])
    with pytest.raises(UserError, match="2 samples cannot be divided among 3 processes; raise batch_size"):
        Group(0, 3).share(X[:2])


@pytest.fixture
def by_value():
    """Workers cannot import this file: send what it defines."""
    cloudpickle = pytest.importorskip("ray").cloudpickle
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
@pytest.mark.parametrize("sampling", ["sandwich", "multi-arch"])
def test_two_processes_have_the_loss_curve_of_one(sampling):
    distill = {"distill": "none"} if sampling == "multi-arch" else {}
    alone, one = trained(sampling=sampling, **distill)
    seen = []
    together, two = trained(sampling=sampling, workers=2, progress=lambda *row: seen.append(row[:2]), **distill)
    assert [row["loss"] for row in two.rows] == pytest.approx([row["loss"] for row in one.rows], abs=1e-5)
    for name, value in alone.store.state_dict().items():
        torch.testing.assert_close(together.store.state_dict()[name], value, atol=1e-4, rtol=1e-4)
    assert seen == [(step, 12) for step in range(1, 13)]


class Deadly(torch.utils.data.Dataset):
    """Ends its process once, in the middle of the training."""

    def __init__(self, mark: Path) -> None:
        self.mark, self.reads = mark, 0

    def __len__(self):
        return 96

    def __getitem__(self, i):
        self.reads += 1
        if self.reads > 200 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return X[i], X[i, :2] * X[i, 2:4]


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_a_killed_worker_goes_on_from_the_last_checkpoint(tmp_path):
    mark = tmp_path / "killed"
    rows = nas.Task.of(Deadly(mark), (X, X[:, :2] * X[:, 2:4]), metric="mse")
    _, together = trained(rows, workers=2, run=tmp_path / "run")
    assert mark.exists()
    _, alone = trained(rows)
    assert [row["loss"] for row in together.rows] == pytest.approx([r["loss"] for r in alone.rows], abs=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("by_value")
def test_what_a_worker_refuses_is_one_sentence():
    with pytest.raises(UserError, match="workers must be at most the batch size of 2, got 3"):
        trained(workers=3, batch_size=2)
    broken = nas.Task.of((X, X[:, :2]), (X, X[:, :2]), loss=nn.MSELoss(reduction="none"), metric="mse")
    with pytest.raises(UserError, match="must return a tensor of one number"):
        trained(broken, workers=2)
