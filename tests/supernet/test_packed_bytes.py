"""The size of a quantized net's file is known from its shapes and its policy, to the byte."""

import pytest
import torch
from safetensors.torch import save
from torch import nn

import nas
from nas.search_space.quantization import GRANULARITIES, policy_of
from nas.supernet.quantize.packed import packed_bytes, to_tensors
from nas.supernet.quantize.post_training import quantize

SCHEMES = ("w8a8", "w4a16", "w4a16g16", "w3a8", "w16a16", "w8a16", "w4a8", "w8a8tzs", "w3a16z", "bf16", "fp8")


class Net(nn.Module):
    """Every kind of part; odd sizes, a norm whose outputs may get scales, a tied weight, a buffer of whole numbers."""

    def __init__(self, width: int, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(11, width)
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 3 * width + 1), nn.Linear(3 * width + 1, width, bias=False)
        self.readout = nn.Linear(width, 11, bias=False)
        if tied:
            self.readout.weight = self.table.weight
        self.register_buffer("ids", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.table(self.ids) + x
        h = h + self.conv(h.transpose(1, 2)).transpose(1, 2)
        return self.readout(h + self.down(self.up(self.norm(h)).relu()))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("tied", [False, True])
def test_packed_bytes_are_those_of_the_file(granularity, tied):
    plain = nas.SearchSpace(lambda trial: Net(trial.suggest_int("width", 17, 21, step=2), tied))
    space = plain.quantized(schemes=SCHEMES, granularity=granularity)
    for seed in range(2):
        architecture = space.sample(seed)
        torch.manual_seed(seed)
        net = space.build(architecture)
        shipped = quantize(net, torch.randn(8, 5, architecture["width"]))
        assert len(save(to_tensors(shipped))) == packed_bytes(net) == packed_bytes(space.skeleton(architecture))
        assert policy_of(net).keys() == shipped.parts.keys()
