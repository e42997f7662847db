"""A net with a policy: calibrated, rounded, evaluated, packed, exported; always the same net."""

from copy import deepcopy

import numpy as np
import onnxruntime
import pytest
import torch
from example_spaces import Block, ViT
from safetensors.torch import save
from torch import nn

import nas
from nas.search_space.quantization import Scheme, policy_of, quantizable
from nas.supernet.export import stored
from nas.supernet.quantize import norms
from nas.supernet.quantize.packed import from_tensors, pack, to_tensors, unpack
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.settings import PLAIN, PostTraining
from nas.supernet.quantize.traffic import observe
from nas.supernet.shipped import as_shipped

SCHEMES = ("w16a16", "w8a8", "w8a16", "w4a16", "w4a8", "w4a16g64", "w4a4", "w6a6")


def images(n=64, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def net_of(*schemes, seed=0):
    """A net with these schemes at its parts in turns."""
    torch.manual_seed(seed)
    net = ViT(48, [Block(48, 2, 96, "softmax"), Block(48, 1, 48, "linear")]).eval()
    for i, part in enumerate(quantizable(net).values()):
        part.quantization = Scheme.parse(schemes[i % len(schemes)])
    return net


def error(net, other, x=None):
    x = images(seed=9) if x is None else x
    with torch.no_grad():
        return float((net(x) - other(x)).norm() / net(x).norm())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_twin_is_near_the_net_and_has_as_many_values_as_its_bits_allow(scheme):
    net = net_of(scheme)
    before = deepcopy(net.state_dict())
    found = quantize(net, images(32))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    bits = Scheme.parse(scheme)
    assert error(net, found.module) < {16: 0.005, 8: 0.05, 6: 0.2, 4: 0.9}[min(bits.weights, bits.activations)]
    assert found.parts.keys() == policy_of(net).keys()
    seen = {}
    for name, part in found.parts.items():
        module = found.module.get_submodule(name)
        if bits.weights < 16:
            codes = part.codes.int()
            assert -codes.min() <= 2 ** (bits.weights - 1) > codes.max()
            assert max(len(row.unique()) for row in codes.flatten(1)) <= 2**bits.weights
        module.register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0]}))
    found.module(images(4, seed=2))
    for x in seen.values():
        assert bits.activations == 16 or len(x.unique()) <= 2**bits.activations


def test_more_bits_are_nearer():
    errors = [error(net_of(s), quantize(net_of(s), images(32)).module) for s in ("w4a4", "w6a6", "w8a8", "w16a16")]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("scheme", ["w4a4", "w4a8", "w6a6", "w4a16"])
def test_what_is_learnt_from_data_beats_min_max_of_whole_tensors(scheme):
    nets = [net_of(scheme, seed=seed) for seed in range(3)]
    ours, plain = ([error(n, quantize(n, images(32), s).module) for n in nets] for s in (PostTraining(), PLAIN))
    assert np.mean(ours) < 0.9 * np.mean(plain)


def outliers():
    """A norm some channels of which are far larger, and its reader."""
    net = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32))
    with torch.no_grad():
        net[0].weight[:4] *= 30
        net[0].bias[5] = 20
    net[1].quantization = Scheme.parse("w8a4")
    return net, torch.randn(512, 64, generator=torch.Generator().manual_seed(0))


def test_norms_are_rewritten_where_channels_differ_by_much(monkeypatch):
    net, x = outliers()
    rewritten = quantize(net, x).module
    assert not torch.equal(rewritten[0].weight, net[0].weight)
    one_scale = quantize(net, x, PostTraining(reparameterized=False)).module
    assert torch.equal(one_scale[0].weight, net[0].weight)
    assert error(net, rewritten, x) < 0.7 * error(net, one_scale, x)
    monkeypatch.setattr(norms, "GAIN", 0.0)
    assert torch.equal(quantize(net, x).module(x), one_scale(x))


class Residual(nn.Module):
    """Its norm is read by the layer and by the sum."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 16)
        with torch.no_grad():
            self.norm.weight[:2] *= 30

    def forward(self, x):
        h = self.norm(x)
        return h + self.fc(h)


def test_a_norm_that_something_else_reads_stays_as_it_is():
    net = Residual()
    net.fc.quantization = Scheme.parse("w8a4")
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    twin = quantize(net, x).module
    assert torch.equal(twin.norm.weight, net.norm.weight)
    assert error(net, twin, x) < 0.5


class Twice(nn.Module):
    """A layer that is called on large inputs first, then on small ones, as layers with shared weights are."""

    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(self.layer(self.norm(x)) / 100)


@torch.no_grad()
def test_a_part_that_is_called_twice_is_calibrated_on_both_calls():
    torch.manual_seed(0)
    net, x = Twice(), torch.randn(32, 4, 8)
    net.layer.quantization = Scheme.parse("w8a8")
    entering, range_ = net.norm(x), quantize(net, x).parts["layer"].activation
    assert 255 * range_.scale == pytest.approx(float(entering.max() - entering.min()), rel=0.01)
    assert observe(net, x, ["layer"]).readers == {"norm": ["layer"]}


def test_calibration_data_that_cannot_be_are_one_sentence():
    net, nothing = net_of("w8a8"), images(2)
    nothing[0, 0, 0, 0] = float("nan")
    with pytest.raises(nas.UserError, match="not finite"):
        quantize(net, nothing)
    with pytest.raises(nas.UserError, match="empty"):
        quantize(net, images(0))
    with pytest.raises(nas.UserError, match=r"does not take calibration data of shape \(2, 3, 8, 8\)"):
        quantize(net, torch.rand(2, 3, 8, 8))
    with pytest.raises(nas.UserError, match="unknown observer 'mean'"):
        PostTraining("mean")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_codes_are_packed_and_unpacked(bits):
    low = -(2 ** (bits - 1))
    codes = torch.randint(low, -low, (7, 5), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed, bits, codes.shape), codes)
    assert packed.numel() == {2: 9, 3: 18, 4: 18}.get(bits, 35)


def test_stored_tensors_give_the_same_twin_to_the_bit_and_are_as_small_as_their_bits():
    found = quantize(net_of(*SCHEMES), images(32))
    tensors = to_tensors(found)
    again = from_tensors(net_of(*SCHEMES), tensors)
    x = images(seed=4)
    with torch.no_grad():
        assert torch.equal(again.module(x), found.module(x))
    with pytest.raises(nas.UserError, match="do not fit the quantized net"):
        from_tensors(net_of(*SCHEMES), {n: t for n, t in tensors.items() if not n.startswith("stem")})
    sizes = {scheme: len(save(stored(quantize(net_of(scheme), images(8))))) for scheme in ("w16a16", "w8a8", "w4a16")}
    assert sizes["w4a16"] < 0.72 * sizes["w8a8"] < 0.5 * sizes["w16a16"]


def test_a_quantized_net_is_exported_loaded_and_run_as_its_twin(tmp_path):
    found = quantize(net_of("w8a8", "w4a16", "w16a16", "w4a8", seed=2), images(32))
    files = nas.export(found, images(2), tmp_path, ("safetensors", "onnx", "onnx-fixed"))
    x = images(256, seed=5)
    with torch.no_grad():
        expected = found.module(x).numpy()
    session = onnxruntime.InferenceSession(files["onnx"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(outputs - expected).max() < 0.1 * np.abs(expected).max()
    assert (outputs.argmax(1) == expected.argmax(1)).mean() > 0.97
    with pytest.raises(nas.UserError, match="no format 'torch'"):
        nas.export(found, images(2), tmp_path, ("torch",))


def small(trial):
    return ViT(32, [Block(32, trial.suggest_int("heads", 1, 2), 32, "softmax")])


def test_subnets_are_evaluated_with_their_policy():
    task = nas.load_task("digits")
    supernet = nas.Supernet(nas.SearchSpace(small).quantized(schemes=["w16a16", "w2a2"], granularity="layer"))
    fine = supernet.space.largest
    rough = supernet.space.architecture({g: "w2a2" if g.startswith("quantize.") else v for g, v in fine.items()})
    x, plain = task.validation.inputs, supernet.extract(fine)
    assert error(plain, as_shipped(supernet, task, fine), x) < 0.01
    twin = as_shipped(supernet, task, rough)
    assert error(plain, twin, x) > 0.05
    assert [nas.evaluate_subnet(supernet, task, a) for a in (rough, fine)] == [
        nas.evaluate(n, task) for n in (twin, plain)
    ]
