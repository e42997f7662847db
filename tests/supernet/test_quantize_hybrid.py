"""A net of convolutions and attention that was trained on real data: what it loses by quantization."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from example_spaces import Block
from torch import Tensor, nn

import nas
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.quantize.blockwise import feel
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.settings import PLAIN, PostTraining


class Hybrid(nn.Module):
    """A depthwise and a pointwise convolution behind batch norms, tokens, a layer of a transformer, a map again."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.depth, self.inner = nn.Conv2d(width, width, 3, 2, 1, groups=width), nn.BatchNorm2d(width)
        self.point, self.block = nn.Conv2d(width, width, 1), Block(width, 2, 2 * width, "softmax")
        self.back, self.last, self.head = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(self.inner(F.silu(self.depth(self.norm(self.stem(x))))))
        tokens = self.block(x.flatten(2).transpose(1, 2))
        y: Tensor = self.head(self.last(x + self.back(tokens.transpose(1, 2).view(x.shape))).mean((2, 3)))
        return y


def trained(task: nas.Task, steps: int = 600) -> nn.Module:
    torch.manual_seed(0)
    net = Hybrid()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for step in range(steps):
        inputs, labels = task.batch(step, 64, seed=0)
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def with_scheme(net: nn.Module, scheme: str) -> nn.Module:
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net


@pytest.mark.slow
def test_a_hybrid_net_keeps_its_accuracy_and_loses_less_than_by_min_max():
    task = nas.load_task("digits")
    net = trained(task)
    whole, answers = nas.evaluate(net, task), net(task.validation.inputs).detach()
    draws = [task.batch(0, 32, seed=seed, augment=False)[0] for seed in range(3)]
    assert whole > 0.93

    def lost(scheme: str, settings: PostTraining) -> tuple[float, float]:
        """Share of the validation split, and the error of the answers."""
        twins = [quantize(with_scheme(net, scheme), x, settings).module for x in draws]
        with torch.no_grad():
            errors = [float((t(task.validation.inputs) - answers).norm() / answers.norm()) for t in twins]
        return whole - float(np.mean([nas.evaluate(t, task) for t in twins])), float(np.mean(errors))

    chosen = PostTraining(choose=True)
    assert lost("w8a8", chosen)[0] <= 0.01
    assert lost("w6a6", chosen)[1] < 0.95 * lost("w6a6", PLAIN)[1]
    (ours, error), (default, of_default), (plain, of_plain) = (lost("w4a4", s) for s in (chosen, PostTraining(), PLAIN))
    assert ours < 0.6 * plain
    assert default < 0.7 * plain
    assert error < 0.95 * of_default < 0.8 * of_plain


def test_a_net_of_8_bits_whose_parts_were_chosen_runs_as_its_twin(tmp_path):
    torch.manual_seed(0)
    found = quantize(with_scheme(Hybrid().eval(), "w8a8"), torch.rand(16, 1, 8, 8), PostTraining(choose=True))
    file = nas.export(found, torch.rand(2, 1, 8, 8), tmp_path, ("onnx",))["onnx"]  # which compares them
    assert file.exists()
    assert not found.softmax


def test_bridges_of_a_hybrid_net():
    net = Hybrid().eval()
    blocks = feel(net, torch.rand(4, 1, 8, 8), list(quantizable(net)))
    bridges = {name: blocks.bridge(name) for name in blocks.felt}
    assert {name: ends for name, ends in bridges.items() if ends} == {
        "point": ["block.q", "block.k", "block.v"],
        "block.down": ["back"],
        "back": ["head"],
    }
