"""Activations with scales found as the net runs, and weights that two parts share: in the file as in the net."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError
from nas.search_space.quantization import Scheme, policy_of
from nas.supernet.quantize.packed import from_tensors, packed_bytes, to_tensors
from nas.supernet.quantize.quantizers import Dynamic
from nas.supernet.quantize.traffic import MOST_ROWS, batches_of, observe

TOKENS = 40


class Language(nn.Module):
    """A head tied to the embedding; the hidden layer has a channel that is far larger than the others."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(TOKENS, width)
        self.norm = nn.RMSNorm(width)
        self.hidden, self.out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, TOKENS, bias=False)
        self.head.weight = self.embedding.weight
        with torch.no_grad():
            self.hidden.weight[0] *= 300

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embedding(x)
        return self.head(self.norm(h + self.out(torch.relu(self.hidden(self.norm(h))))))


def quantized(scheme: str) -> tuple[nas.Supernet, nas.SearchSpace]:
    space = nas.SearchSpace(lambda _: Language())
    supernet = nas.Supernet(space, parameters=dict(Language().named_parameters())).eval()
    return supernet, space.quantized(schemes=[scheme])


def tokens(rows: int = 8) -> torch.Tensor:
    return torch.randint(TOKENS, (rows, 9), generator=torch.Generator().manual_seed(1))


def error(scheme: str) -> float:
    supernet, space = quantized(scheme)
    net = nas.quantize(supernet.serving(space).extract(space.largest), tokens()).module
    with torch.no_grad():
        return float((net(tokens()) - Language()(tokens())).abs().mean())


def test_a_large_channel_spoils_only_its_neighbours() -> None:
    assert error("w8a8d") < 0.3 * error("w8a8")


@pytest.mark.parametrize("scheme", ["w8a8d", "w4a8d", "w8a8g16d", "w4a8g16zd", "w4a16", "w8a8"])
def test_the_file_computes_what_the_net_does(scheme: str, tmp_path) -> None:
    supernet, space = quantized(scheme)
    net = supernet.serving(space).extract(space.largest)
    result = nas.quantize(net, tokens())
    nas.export(result, tokens(1), tmp_path, ("safetensors", "onnx-fixed"))
    session = onnxruntime.InferenceSession(tmp_path / "model-fixed.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (output,) = session.run(None, {given.name: tokens(1).numpy()})
    with torch.no_grad():
        expected = result.module(tokens(1)).numpy()
    # where a number lies between two codes, either may be taken
    assert np.abs(output - expected).max() < 0.01 * np.abs(expected).max()
    assert result.module.head.weight is result.module.embedding.weight
    again = from_tensors(supernet.serving(space).extract(space.largest), to_tensors(result))
    with torch.no_grad():
        assert torch.equal(again.module(tokens()), result.module(tokens()))
    assert (tmp_path / "model.safetensors").stat().st_size == packed_bytes(net)


def test_parts_that_share_a_weight_have_one_gene_and_one_scheme() -> None:
    _, space = quantized("w4a8d")
    assert [gene for gene in space.genes if "head" in gene] == []
    policy = policy_of(space.skeleton(space.largest))
    assert {name: policy[name].text for name in ("embedding", "head")} == {"embedding": "w4a16g32", "head": "w4a8g32d"}
    kept = nas.SearchSpace(lambda _: Language()).quantized(schemes=["w8a8"], keep=("head",))
    assert policy_of(kept.skeleton(kept.largest)).keys() == {"hidden", "out"}


def test_blocks_of_a_token_have_scales_of_their_own() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5, 100.0, 127.0, 0.0]])
    rounded = Dynamic(8, 4)(x)
    assert torch.allclose(rounded[:, :4], (x[:, :4] / (100 / 127)).round() * (100 / 127))
    assert torch.equal(rounded[:, 4:], x[:, 4:])  # a shorter block, its scale 1
    assert torch.equal(Dynamic(8, 4)(torch.zeros(1, 6)), torch.zeros(1, 6))


@pytest.mark.parametrize("text", ["w8a8td", "w8a8sd", "w8a16d", "w8a8g24d", "w16a16d"])
def test_wrong_schemes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"d needs activations of 8 bits and groups of 16, 32|not understood"):
        Scheme.parse(text)
    assert Scheme.parse("w8a8d").text == "w8a8g32d"
    assert Scheme.parse(Scheme.parse("w4a8g64zd").text) == Scheme.parse("w4a8g64zd")


def test_tokens_come_in_small_batches_and_all_are_seen() -> None:
    many = tokens(300)
    batches = batches_of(many)
    assert torch.equal(torch.cat(batches), many)
    assert all(batch.numel() <= 1024 for batch in batches)
    supernet, space = quantized("w8a8")
    net = supernet.serving(space).extract(space.largest)
    traffic = observe(net, many, policy_of(net))
    assert 0.9 * MOST_ROWS <= len(traffic.inputs["hidden"]) <= MOST_ROWS
    assert traffic.inputs["hidden"] is not traffic.inputs["out"]
