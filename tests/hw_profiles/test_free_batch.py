"""A file with a free batch out of two fixed ones: the same numbers at any batch, or none where that cannot be."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nas.hw_profiles.cost.flat import Flat
from nas.hw_profiles.cost.onnx_file import _freed, quiet, to_onnx
from nas.search_space.temporary import unfused


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.qkv, self.out = nn.Conv2d(1, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(tokens.shape)
        return self.out((tokens + mixed).mean(1))


class Token(nn.Module):
    """A token beside each sample, by its size."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, 4))

    def forward(self, x):
        return torch.cat([self.token.expand(x.shape[0], 1, 4), x], 1)


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def freed(module, example):
    with quiet(), unfused(), torch.no_grad():
        return _freed(Flat.of(module.eval(), example))


def run(content, x):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def test_a_free_batch_out_of_two_fixed_ones():
    torch.manual_seed(0)
    module, example = Attention().eval(), torch.rand(1, 1, 8, 8)
    content = freed(module, example)
    assert content is not None
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert [each.domain for each in onnx.load_from_string(content).opset_import] == [""]
    for rows in (1, 2, 7):
        x = torch.randn(rows, 1, 8, 8)
        assert np.allclose(run(content, x), module(x).detach(), atol=1e-5)


def test_a_forward_that_decides_by_values_is_left_to_the_other_exporter():
    assert freed(Branch(), torch.rand(2, 4)) is None
    with pytest.raises(Exception, match="cannot translate the module"):
        to_onnx(Branch(), torch.rand(2, 4), free_batch=True)


def test_a_batch_that_is_no_shape_of_a_reshape_is_left_to_the_other_exporter():
    x = torch.rand(2, 3, 4)
    assert freed(Token(), x) is None
    assert run(to_onnx(Token(), x, free_batch=True), torch.rand(5, 3, 4)).shape == (5, 4, 4)
