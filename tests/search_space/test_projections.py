"""torch's MultiheadAttention in a quantized space: the same outputs, and projections that a policy speaks of."""

import copy

import onnxruntime
import pytest
import torch
from torch import nn

import nas
from nas.hw_profiles.cost.onnx_file import quantized_onnx
from nas.search_space.projections import Projected, open_projections
from nas.search_space.quantization import policy_of

PADDED = torch.tensor([[False] * 5 + [True] * 2, [False] * 7])
CAUSAL = torch.ones(7, 7).triu(1).bool()


def opened(**options):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(24, 3, **options).eval()
    nn.init.normal_(plain.in_proj_bias if plain.in_proj_bias is not None else plain.in_proj_weight)
    other = copy.deepcopy(plain)
    open_projections(other)
    assert isinstance(other, Projected)
    assert dict(other.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    return plain, other


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"batch_first": True, "bias": False}])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("masks", [{}, {"attn_mask": CAUSAL}, {"attn_mask": CAUSAL.float() * -9}, {"padding": PADDED}])
def test_outputs_are_those_of_torch(options, weights, masks):
    plain, other = opened(**options)
    x = torch.randn(2, 7, 24) if options.get("batch_first") else torch.randn(7, 2, 24)
    masks = {"key_padding_mask" if n == "padding" else n: m for n, m in masks.items()}
    both = masks | ({"key_padding_mask": PADDED} if masks.get("attn_mask") is CAUSAL else {})
    called = []
    other.in_proj.register_forward_hook(lambda *_: called.append(1))
    for given in (masks, both):
        expected = plain(x, x, x, need_weights=weights, **given)
        found = other(x, x, x, need_weights=weights, **given)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert len(called) == 2


def test_masks_of_heads_rows_without_a_batch_and_other_sequences():
    plain, other = opened(batch_first=True)
    x, memory, heads = torch.randn(2, 7, 24), torch.randn(2, 4, 24), torch.randn(6, 7, 7)
    for how in ({"attn_mask": heads}, {"average_attn_weights": False}):
        torch.testing.assert_close(other(x, x, x, **how), plain(x, x, x, **how), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(other(x[0], x[0], x[0]), plain(x[0], x[0], x[0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(other(x, memory, memory), plain(x, memory, memory))


def test_what_cannot_be_opened_stays_in_floats():
    def build(trial):
        return nn.Sequential(nn.MultiheadAttention(24, 3, kdim=8), nn.Linear(24, trial.suggest_int("n", 2, 3)))

    space = nas.SearchSpace(build).quantized()
    module = space.skeleton(space.largest)
    assert type(module[0]) is nn.MultiheadAttention
    assert policy_of(module).keys() == {"1"}


class Decoder(nn.Module):
    """Layers with self-attention and attention to the inputs themselves, embedded otherwise."""

    def __init__(self, width, depth):
        super().__init__()
        self.stem, self.memory = nn.Linear(8, width), nn.Linear(8, width)
        layers = (nn.TransformerDecoderLayer(width, 4, 2 * width, 0.0, batch_first=True) for _ in range(depth))
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(width, 10)

    def forward(self, x):
        tokens, memory = self.stem(x), self.memory(x)
        for layer in self.layers:
            tokens = layer(tokens, memory)
        return self.head(tokens.mean(1))


def test_a_layer_of_torchs_runs_in_integers():
    def build(trial):
        return nn.Sequential(nn.TransformerEncoderLayer(16, 2, trial.suggest_int("ffn", 16, 32, step=16), 0.0)).eval()

    space, x = nas.SearchSpace(build).quantized(schemes=["w8a8"], granularity="layer"), torch.randn(7, 3, 16)
    quantized = nas.quantize(nas.Supernet(space).extract(space.largest), x)
    assert quantized.parts["0.self_attn.in_proj"].activation is not None
    session = onnxruntime.InferenceSession(quantized_onnx(quantized.floats(), x, quantized.integers()))
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs), quantized.module(x), atol=2e-2, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w8a8", "w4a16", "w16a16"])
def test_a_space_of_torch_layers_is_searched_stored_and_run_in_integers(scheme, tmp_path):
    space = nas.SearchSpace(lambda t: Decoder(t.suggest_int("width", 16, 32, step=16), t.suggest_int("depth", 1, 2)))
    supernet = nas.Supernet(space)
    found = nas.Supernet(space.quantized(schemes=[scheme]))
    for name, weight in supernet.store.named_parameters():  # opening draws nothing
        assert found.store.get_parameter(name).equal(weight)
    found = supernet.serving(found.space)
    net = found.extract(found.space.largest)
    x = torch.randn(40, 7, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(x), supernet.extract(space.largest)(x), atol=1e-5, rtol=1e-4)
    quantized = nas.quantize(net, x[:32])
    assert {"layers.0.self_attn.in_proj", "layers.1.multihead_attn.out_proj"} <= quantized.parts.keys()
    files = nas.export(quantized, x[:2], tmp_path, ["safetensors", "onnx"])
    floats = 4 * sum(p.numel() for p in net.parameters())
    assert files["safetensors"].stat().st_size < floats * {"w8a8": 0.5, "w4a16": 0.45, "w16a16": 0.65}[scheme]
    session = onnxruntime.InferenceSession(files["onnx"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs), quantized.module(x), atol=2e-2, rtol=1e-2)
