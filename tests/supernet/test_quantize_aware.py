"""Learned steps of rounding: their gradients, what nets compute with them in training and after, what stays."""

import copy

import numpy as np
import pytest
import torch
from example_spaces import Block, ViT
from torch import Tensor, nn

import nas
from nas.search_space.quantization import Scheme
from nas.supernet.aware import every_policy, start_qat
from nas.supernet.quantize.learned import PACE, Learned, fake_quantized, weight_affine
from nas.supernet.quantize.post_training import quantize
from nas.supernet.quantize.quantizers import Affine, LogSqrt2
from nas.supernet.recipe import Recipe
from nas.supernet.sampling import sandwich, uniform
from nas.supernet.sharing import _pack_supernet, _unpack_supernet
from nas.supernet.shipped import quantized_for
from nas.supernet.trained import fingerprint

TASK = nas.load_task("digits").subset(train=256, validation=64, test=64)


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inp, self.norm, self.head = nn.Linear(64, width), nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.inp(x.flatten(1))).relu())
        return out


FLOATS = nas.SearchSpace(lambda trial: Net(trial.suggest_categorical("width", [8, 16, 32])))
ATTENTION = nas.SearchSpace(lambda trial: ViT(16, [Block(16, trial.suggest_int("heads", 1, 2), 32, "softmax")]))


class Torchs(nn.Module):
    """An attention of torch's own, and an embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places, self.inp = nn.Embedding(8, width), nn.Linear(8, width)
        self.mixer, self.head = nn.MultiheadAttention(width, 2, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x.squeeze(1)) + self.places(torch.arange(8))
        out: Tensor = self.head(self.mixer(x, x, x)[0].mean(1))
        return out


TORCHS = nas.SearchSpace(lambda trial: Torchs(trial.suggest_categorical("width", [8, 16])))
SPACE = FLOATS.quantized(schemes=["w3a3", "w8a8", "w2a16"])


def with_steps(space: nas.SearchSpace, moved: float = 0.0) -> nas.Supernet:
    """A supernet that is not trained, its steps moved a little from where they start."""
    supernet = nas.Supernet(space)
    start_qat(supernet, TASK)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for step in supernet.steps.values():
            step[0] += moved * torch.randn((), generator=rng)
    return supernet.eval()


def tensors(supernet: nas.Supernet) -> dict[str, Tensor]:
    found = dict(supernet.store.named_parameters()) | {f"{n} step": p for n, p in supernet.steps.items()}
    return {n: p.detach().clone() for n, p in found.items()}


def same(a: nas.Supernet, b: nas.Supernet) -> bool:
    left, right = tensors(a), tensors(b)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


# Gradients


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_gradient_of_a_step_is_that_of_lsq(bits: int, signed: bool) -> None:
    """Equation 3 of Esser et al. 2020, one number after the other."""
    zero = 0 if signed else 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    s, x = 0.3, 2 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(500, generator=torch.Generator().manual_seed(1))
    expected = 0.0
    for v, g in zip((x / s).tolist(), upstream.tolist(), strict=True):
        q = round(v)
        slope = low - zero if q < low - zero else high - zero if q > high - zero else q - v
        expected += g * slope
    expected /= (500 * high) ** 0.5
    step = torch.tensor([np.log(s) / PACE, zero], requires_grad=True, dtype=torch.float32)
    x.requires_grad_()
    affine = Affine(bits, torch.tensor(s), torch.tensor(zero), signed)
    found = Learned.apply(x, step, affine, 500)
    assert torch.equal(found, affine(x))
    (found * upstream).sum().backward()
    assert step.grad is not None
    assert x.grad is not None
    assert step.grad.tolist() == pytest.approx([PACE * s * expected, 0], rel=1e-3)  # by the log of the step
    assert torch.equal(x.grad, torch.where(affine.inside(x), upstream, 0.0))


def test_of_powers_the_end_of_the_range_is_learned() -> None:
    x = torch.tensor([2.0, 0.6, 0.0], requires_grad=True)
    q, step = LogSqrt2(4, torch.tensor(1.0)), torch.zeros(1, requires_grad=True)
    Learned.apply(x, step, q, 1).sum().backward()
    assert step.grad is not None
    assert x.grad is not None
    expected = 1.0 + (2**-0.5 - 0.6)  # clipped to 1; 0.6 becomes 0.707; 0 stays
    assert step.grad.tolist() == pytest.approx([PACE * expected / q.zero_code**0.5])
    assert x.grad.tolist() == [0, 1, 0]


# In a net


def test_weights_start_with_steps_that_each_row_gives() -> None:
    weight = torch.cat([torch.full((3, 16), 1.0), torch.full((3, 16), 0.25)], 1)
    for text, shape in (("w4a4", (3,)), ("w4a16g16", (3, 2)), ("w4a8t", ())):
        found = weight_affine(weight, Scheme.parse(text), torch.zeros(1))
        assert found.scale.shape == shape
    grouped = weight_affine(weight, Scheme.parse("w2a16g16"), torch.tensor([np.log(2) / PACE]))
    assert grouped.scale[0].tolist() == pytest.approx([2, 0.5], rel=1e-3)  # min(2 * 1, 1) and a factor of 2


@pytest.mark.parametrize("kind", ["plain", "torch's"])
@pytest.mark.parametrize("schemes", [["w4a4"], ["w3a3", "w2a4", "w4a3"], ["w4a4z", "w3a3ts"]], ids=" ".join)
def test_a_subnet_computes_what_it_is_evaluated_with(kind: str, schemes: list[str]) -> None:
    """Softmax outputs included: a training rounds what an evaluation rounds."""
    space = {"plain": ATTENTION, "torch's": TORCHS}[kind].quantized(schemes=schemes)
    supernet = with_steps(space, moved=0.02)
    assert any("/softmax" in key for key in supernet.steps)
    for net in (space.largest, space.sample(1)):
        with (
            torch.no_grad(),
            supernet.filled(supernet.skeleton(net), net) as subnet,
            fake_quantized(subnet, supernet.steps),
        ):
            found = subnet(TASK.validation.inputs)
        shipped = quantized_for(supernet.extract(net), TASK, steps=supernet.steps)
        torch.testing.assert_close(found, shipped.module(TASK.validation.inputs), atol=1e-4, rtol=1e-4)
        other = quantized_for(supernet.extract(net), TASK)
        assert not torch.equal(found, other.module(TASK.validation.inputs))


def test_8_bits_and_more_have_no_steps_and_are_quantized_as_ever() -> None:
    supernet = with_steps(SPACE, moved=0.1)
    assert sorted(supernet.steps) == [f"{part}/{way}" for part in ("head", "inp") for way in ("a3", "w2g32", "w3")]
    net = SPACE.architecture({"width": 16, "quantize.inp": "w8a8", "quantize.head": "w8a8"})
    module, x = supernet.extract(net), TASK.validation.inputs
    left, right = (quantize(module, TASK.calibration_inputs(32), None, s) for s in (supernet.steps, None))
    assert torch.equal(left.module(x), right.module(x))
    with supernet.filled(supernet.skeleton(net), net) as subnet, fake_quantized(subnet, supernet.steps):
        assert torch.equal(subnet(x), module(x))


def test_gradients_reach_the_subnets_corner_and_nothing_stays_behind() -> None:
    supernet = with_steps(FLOATS.quantized(schemes=["w3a3"], keep=["head"]))
    net = supernet.space.architecture({**supernet.space.largest, "width": 16})
    skeleton = supernet.skeleton(net)
    with supernet.filled(skeleton, net) as subnet:
        before = dict(subnet.named_parameters())
        with fake_quantized(subnet, supernet.steps):
            assert subnet.head.weight is before["head.weight"]
            assert subnet.inp.weight is not before["inp.weight"]
            subnet(TASK.train.inputs[:8]).square().sum().backward()
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), fake_quantized(subnet, supernet.steps):
            subnet(torch.zeros(2, 3))
        assert all(p is before[n] for n, p in subnet.named_parameters())
    gradient = supernet.store.get_parameter("inp.weight").grad
    assert gradient is not None
    assert gradient[:16].abs().sum() > 0
    assert (gradient[16:] == 0).all()
    assert all(p.is_meta for p in skeleton.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in skeleton.modules())


def test_policies_are_drawn_for_every_net_but_the_teacher() -> None:
    def own(net: nas.Architecture) -> object:
        return net["width"]

    def drawn(nets: list[nas.Architecture]) -> int:
        return len({tuple(v for n, v in net.items() if n != "width") for net in nets})

    found = []
    for seed in range(200):
        passes = sandwich(SPACE, np.random.default_rng(seed), 2)
        found.append(every_policy(passes, SPACE, np.random.default_rng(seed)))
        assert [own(p.architecture) for p in found[-1]] == [own(p.architecture) for p in (passes[0], *passes)]
        assert [p.distils for p in found[-1]] == [False, True, True, True, True]
        assert found[-1][0] == passes[0]
    assert [drawn([passes[i].architecture for passes in found]) for i in range(5)] == [1, 9, 9, 9, 9]
    assert len(every_policy(uniform(SPACE, np.random.default_rng(0), 2), SPACE, np.random.default_rng(0))) == 1


# Trainings


def test_floats_are_trained_as_ever() -> None:
    supernet = with_steps(SPACE)
    assert "qat" not in Recipe().identity()
    assert fingerprint(supernet, TASK, Recipe(qat=True)) != fingerprint(supernet, TASK, Recipe())
    nas.train(supernet, TASK, steps=2, batch_size=16)
    assert not supernet.steps  # which were of other weights


def test_steps_go_on_and_are_shared_like_weights() -> None:
    floats = nas.Supernet(FLOATS)
    supernet = floats.serving(SPACE)
    nas.train(supernet, TASK, steps=4, batch_size=16, qat=True, lr=1e-2)
    assert len({float(step.detach()[0]) for step in supernet.steps.values()}) > 3
    assert same(supernet, supernet.serving(FLOATS))
    assert same(supernet, _unpack_supernet(_pack_supernet(supernet)))
    before = copy.deepcopy(supernet)
    start_qat(supernet, TASK)
    assert same(supernet, before)


class Killed(Exception):
    pass


@pytest.mark.parametrize("dies", [4, 10])
def test_a_killed_training_ends_with_the_same_weights_and_steps(tmp_path, dies: int) -> None:
    recipe = Recipe(steps=12, batch_size=32, checkpoint_every=3, qat=True, ema=0.5)
    undisturbed, resumed = nas.Supernet(SPACE), nas.Supernet(SPACE, seed=99)
    expected = nas.train(undisturbed, TASK, recipe)

    def kill(step: int, *_: object) -> None:
        if step == dies:
            raise Killed

    with pytest.raises(Killed):
        nas.train(nas.Supernet(SPACE), TASK, recipe, run=tmp_path, progress=kill)
    assert nas.train(resumed, TASK, recipe, run=tmp_path) == expected
    assert same(undisturbed, resumed)


@pytest.mark.parametrize("space", [FLOATS, FLOATS.quantized(schemes=["w8a8", "w16a16"])], ids=["floats", "8 bits"])
def test_without_few_bits_there_is_nothing_to_learn(space: nas.SearchSpace) -> None:
    with pytest.raises(nas.UserError, match="no net of the space has weights or activations of fewer than 8 bits"):
        nas.train(nas.Supernet(space), TASK, steps=2, qat=True)


@pytest.mark.slow
def test_weights_of_2_bits_gain() -> None:
    """Against the same number of float steps, quantized after training in the best way there is."""
    task, found = nas.load_task("digits"), []
    floats = nas.SearchSpace(lambda trial: Net(trial.suggest_categorical("width", [32, 64])))
    space = floats.quantized(schemes=["w2a8", "w8a8"])
    first = nas.Supernet(floats)
    nas.train(first, task, steps=600)
    nets = [space.architecture({"width": w, "quantize.inp": "w2a8", "quantize.head": "w2a8"}) for w in (32, 64)]
    for rounds in (False, True):
        supernet = copy.deepcopy(first).serving(space)
        nas.train(supernet, task, steps=300, lr=2e-3, qat=rounds)
        found.append(np.mean([nas.evaluate_subnet(supernet, task, net) for net in nets]))
    assert found[1] > found[0] + 0.01
