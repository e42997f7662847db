"""Supernets on other devices and in other precisions: what stays behind fails here, before it does on a GPU."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import nas
from nas.errors import UserError
from nas.supernet.compute import compute_device
from nas.supernet.evaluate import predictor
from nas.supernet.recipe import Recipe
from nas.supernet.sampling import Pass
from nas.supernet.trainer import Trainer

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


class Masked(nn.Module):
    """A constant, a running statistic and two inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, width), nn.BatchNorm1d(width), nn.Linear(width, 1)
        self.register_buffer("scale", torch.linspace(1, 2, width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"values": self.last(torch.relu(self.norm(self.first(x * mask))) * self.scale)}


def masked_task() -> nas.Task:
    rows = {"x": X, "mask": X > 0, "target": X[:, :1]}
    return nas.Task.of(rows, rows, inputs=("x", "mask"), output="values", metric="mse", loss=nn.L1Loss())


SHALLOW = nas.load_preset("vit-digits").model_copy(update={"layers": 2, "least_layers": 1})
SPACES = {
    "digits": (nas.SearchSpace(SHALLOW.bind((1, 8, 8), 10)), nas.load_task("digits")),
    "masked": (nas.SearchSpace(lambda trial: Masked(trial.suggest_int("width", 8, 24, step=8))), masked_task()),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("distill", ["kl", "none"])
def test_nothing_of_a_training_stays_behind_on_another_device(name: str, distill: str) -> None:
    """On the meta device a tensor that was left on the CPU is an error in every operator, as on a GPU."""
    space, task = SPACES[name]
    supernet = nas.Supernet(space).to("meta").train()
    trainer = Trainer(supernet, task, Recipe(steps=2, batch_size=16, distill=distill, ema=0.5, precision="fp32"), None)
    batch = task.batch(0, 16, 0)
    inputs, targets = (tree_map(lambda t: t.to("meta"), part) for part in batch)
    teacher = None
    for architecture in (space.largest, space.smallest):
        one = Pass(architecture)
        prediction = trainer._forward(inputs, one)
        loss = trainer._loss(prediction, targets, teacher)
        loss.backward()
        teacher = prediction.detach()
    trainer._used = trainer._corners([Pass(space.largest)])
    trainer.optimizer.step(1e-3, trainer._used)
    trainer._average()
    assert {p.device.type for p in supernet.store.parameters()} == {"meta"}


@pytest.mark.parametrize("name", SPACES)
def test_evaluation_moves_batches_to_the_net(name: str) -> None:
    space, task = SPACES[name]
    net = nas.Supernet(space).extract(space.largest).to("meta").eval()
    inputs, targets = next(iter(task.validation.batches(8)))
    prediction = predictor(net, task)(inputs)
    assert prediction.device.type == task.targets_for(prediction, targets).device.type == "meta"


@pytest.mark.parametrize("name", SPACES)
def test_a_supernet_in_double_precision_trains_and_agrees(name: str) -> None:
    space, task = SPACES[name]
    single, double = nas.Supernet(space), nas.Supernet(space).double()
    histories = [nas.train(s, task, steps=4, batch_size=16, ema=0.5, precision="fp32") for s in (single, double)]
    assert [row["loss"] for row in histories[1].rows] == pytest.approx([r["loss"] for r in histories[0].rows], rel=1e-3)
    net = double.extract(space.smallest, task)
    tensors = [*net.parameters(), *net.buffers()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float64}
    values = [nas.evaluate_subnet(s, task, space.smallest) for s in (single, double)]
    assert values[0] == pytest.approx(values[1], abs=0.02)


def test_names_of_compute_devices() -> None:
    assert compute_device("cpu") == torch.device("cpu")
    assert compute_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match="unknown compute device 'gpu'; valid: "):
        compute_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"'cuda' is not available to torch .* here; available: .*cpu"):
            nas.train(nas.Supernet(SPACES["masked"][0]), SPACES["masked"][1], steps=1, device="cuda")


@GPU
@pytest.mark.parametrize("name", SPACES)
def test_a_gpu_trains_and_evaluates_as_the_cpu_does(name: str) -> None:
    space, task = SPACES[name]
    here, there = nas.Supernet(space), nas.Supernet(space)
    knobs = {"steps": 4, "batch_size": 16, "precision": "fp32"}
    losses = [
        [row["loss"] for row in nas.train(s, task, device=device, **knobs).rows]
        for s, device in ((here, "cpu"), (there, "cuda"))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert next(there.parameters()).is_cuda
    values = [nas.evaluate_subnet(s, task, space.largest) for s in (here, there)]
    assert values[1] == pytest.approx(values[0], abs=0.02)
