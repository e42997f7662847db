"""Quantizers, ranges, rounding, RepQ's reparameterization: known answers and identities."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import layer_norm

from nas.errors import UserError
from nas.supernet.quantize.observers import OBSERVERS, fit, observer, percentile
from nas.supernet.quantize.quantizers import SMALLEST_SCALE, Affine, LogSqrt2, affine_of
from nas.supernet.quantize.repq import reparameterize
from nas.supernet.quantize.rounding import gptq, hessian, nearest, reconstruction

SIGNS = pytest.mark.parametrize(
    ("symmetric", "signed"), [(s, g) for s in (True, False) for g in (True, False)], ids=str
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def squared_error(x, quantize):
    return float((quantize(x) - x).square().mean())


# Affine


def test_known_codes():
    a = affine_of(tensor(-1.0)[0], tensor(1.55)[0], 8, symmetric=False, signed=False)
    assert (float(a.scale), int(a.zero)) == (pytest.approx(0.01), 100)
    assert a.codes(tensor(-1.0, 0.0, 0.014, 1.55, 9.0, -9.0)).tolist() == [0, 100, 101, 255, 255, 0]
    s = affine_of(tensor(-1.0)[0], tensor(1.27)[0], 8, symmetric=True, signed=True)
    assert s.codes(tensor(-1.27, 0.0, 1.27, 2.0, -2.0)).tolist() == [-127, 0, 127, 127, -128]
    half = Affine(4, tensor(1.0)[0], torch.tensor(0), signed=True)
    assert half.codes(tensor(0.5, 1.5, 2.5, -0.5, -1.5)).tolist() == [0, 2, 2, 0, -2]  # half to even


@SIGNS
def test_the_same_as_torch_for_a_tensor(symmetric, signed):
    x = normal(4096, dtype=torch.float32)
    a = affine_of(x.min() * 0.7, x.max(), 8, symmetric=symmetric, signed=signed)
    theirs = torch.fake_quantize_per_tensor_affine(x, float(a.scale), int(a.zero), a.low, a.high)
    assert torch.equal(a(x), theirs)
    assert a(x).dtype == torch.float32
    assert a(x.double()).dtype == torch.float64


@pytest.mark.parametrize("zero", [0, 3, -6])
def test_ties_are_rounded_as_torch_does(zero):
    x = torch.arange(-300, 300) / 8
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.25, zero, -128, 127)
    assert torch.equal(Affine(8, torch.tensor(0.25), torch.tensor(zero), signed=True)(x), theirs)


@SIGNS
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_same_as_torch_for_channels(symmetric, signed, axis):
    x = normal(6, 5, 7, dtype=torch.float32) * torch.logspace(-2, 2, 7)
    a = fit("min_max", x, 4, symmetric=symmetric, signed=signed, axis=axis)
    theirs = torch.fake_quantize_per_channel_affine(x, a.scale, a.zero, axis % 3, a.low, a.high)
    assert torch.equal(a(x), theirs)


def test_groups_are_columns_on_their_own():
    weight = normal(3, 10) * torch.logspace(-1, 1, 10, dtype=torch.float64)
    a = fit("min_max", weight, 4, symmetric=True, group=4)
    assert a.scale.shape == (3, 3)
    parts = [fit("min_max", part, 4, symmetric=True, axis=0)(part) for part in weight.split(4, dim=1)]
    assert torch.equal(a(weight), torch.cat(parts, dim=1))
    assert torch.equal(
        fit("mse", weight, 4, symmetric=False, group=16)(weight), fit("mse", weight, 4, symmetric=False, axis=0)(weight)
    )


@SIGNS
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=20), bits=st.integers(2, 8))
def test_properties_of_affine(symmetric, signed, values, bits):
    x = tensor(*values)
    a = affine_of(x.min(), x.max(), bits, symmetric=symmetric, signed=signed)
    assert a.low <= a.zero <= a.high
    assert float(a.scale) >= SMALLEST_SCALE
    assert torch.equal(a(torch.zeros_like(x)), torch.zeros_like(x))
    assert ((a(x) - x).abs() <= a.scale / 2 * (1 + 1e-9)).all()
    assert torch.equal(a.codes(a(x)), a.codes(x))
    assert torch.equal(a(a(x)), a(x))


@SIGNS
def test_a_channel_of_zeros_stays_zero(symmetric, signed):
    x = torch.stack([torch.zeros(8), torch.ones(8), -torch.ones(8)])
    a = fit("mse", x, 4, symmetric=symmetric, signed=signed, axis=0)
    assert (a.scale.half() > 0).all()
    assert torch.equal(a(x)[0], x[0])
    assert torch.allclose(a(x), x)


def test_what_lies_inside():
    a = Affine(4, torch.tensor(0.3), torch.tensor(0), signed=True)
    assert a.inside(torch.tensor([-9.0, -2.0, 0.1, 2.0, 9.0])).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bits": 1}, "between 2 and 16, got 1"),
        ({"bits": 17}, "between 2 and 16, got 17"),
        ({"axis": 0, "group": 2}, "not both"),
        ({"zero": torch.zeros(2)}, "shape"),
    ],
    ids=str,
)
def test_what_affine_refuses(wrong, says):
    with pytest.raises(UserError, match=says):
        Affine(**{"bits": 4, "scale": torch.ones(3), "zero": torch.zeros(3), "signed": True, **wrong})


# LogSqrt2


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_log_sqrt2_is_a_power(bits):
    q = LogSqrt2(bits, tensor(0.83)[0])
    codes = torch.arange(q.zero_code + 1)
    power = 0.83 * torch.exp2(-codes.double() / 2)
    power[-1] = 0
    assert torch.allclose(q.decode(codes), power, rtol=1e-12, atol=0)
    assert torch.equal(q.codes(q.decode(codes)), codes.int())


def test_log_sqrt2_on_softmax_outputs():
    q = LogSqrt2(4, torch.tensor(1.0))
    assert q.codes(torch.tensor([1.0, 2.0, 0.5, 0.6, 2**-7.0, 2**-7.3, 0.0])).tolist() == [0, 0, 2, 1, 14, 15, 15]
    assert q(torch.tensor([1.0, 2.0, 0.5, 2**-7.3, 0.0])).tolist() == [1, 1, 0.5, 0, 0]
    p = (2 * normal(64, 197, dtype=torch.float32)).softmax(-1)
    uniform = fit("mse", p, 4, symmetric=False, signed=False)
    assert squared_error(p, LogSqrt2(4, p.max())) < 0.5 * squared_error(p, uniform)
    assert q.inside(torch.tensor([2.0, 0.5, 0.0])).tolist() == [False, True, False]


# observers


def test_known_ranges():
    x = torch.arange(-100.0, 901.0)
    assert [float(v) for v in observer("min_max")(x, 8, False)] == [-100, 900]
    assert [float(v) for v in percentile(0.99)(x, 8, False)] == [-90, 890]


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_observer(name, symmetric):
    x = normal(3, 500) * tensor(0.01, 1.0, 100.0)[:, None] + tensor(0.0, 5.0, 0.0)[:, None]
    low, high = OBSERVERS[name](x, 4, symmetric)
    assert low.shape == high.shape == (3,)
    assert (low <= high).all()
    assert (low >= x.amin(1).clamp(max=0)).all()  # a range is widened to 0 in any case
    assert (high <= x.amax(1)).all()
    for i in range(3):  # a channel does not see the others
        alone = OBSERVERS[name](x[i], 4, symmetric)
        assert torch.equal(torch.stack(alone), torch.stack((low[i], high[i])))
    assert fit(name, torch.zeros(4, 3), 4, symmetric=symmetric, axis=1)(torch.zeros(4, 3)).eq(0).all()


@pytest.mark.parametrize("name", OBSERVERS)
def test_what_observers_refuse(name):
    for bad in (math.nan, math.inf):
        with pytest.raises(UserError, match="NaN or infinity"):
            fit(name, torch.tensor([1.0, bad]), 8, symmetric=True)
    with pytest.raises(UserError, match="no calibration data"):
        fit(name, torch.zeros(0, 3), 8, symmetric=True, axis=1)


def test_an_unknown_observer_says_which_there_are():
    with pytest.raises(UserError, match="mse"):
        fit("percentile", torch.ones(3), 8, symmetric=True)


def with_outliers():
    x = normal(4, 20_000)
    x[:, :4] = tensor(15.0, -12.0, 20.0, -18.0)
    return x


@pytest.mark.parametrize("name", ["mse", "dual_clip", "percentile_0.999"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_clipping_outliers_pays(name, symmetric):
    x = with_outliers()
    error, whole = (squared_error(x, fit(n, x, 4, symmetric=symmetric, axis=0)) for n in (name, "min_max"))
    assert error < 0.3 * whole


def test_a_wider_search_is_never_worse():
    x = with_outliers()
    x[2:] = x[2:].clamp(min=-1)  # lopsided
    for bits in (8, 3, 4):
        errors = [
            (fit(n, x, bits, symmetric=False, axis=0)(x) - x).square().mean(1) for n in ("min_max", "mse", "dual_clip")
        ]
        assert (errors[1] <= errors[0]).all()
        assert (errors[2] <= errors[1]).all()
    assert (errors[2][2:] < 0.8 * errors[1][2:]).all()


# rounding


def layer(rows=24, columns=48, rank=12):
    """A weight and inputs that go together: a few directions, some noise, larger channels and smaller ones."""
    inputs = normal(400, rank, seed=1) @ normal(rank, columns, seed=2) / rank**0.5 + 0.2 * normal(400, columns, seed=3)
    return normal(rows, columns, seed=4, dtype=torch.float32), inputs * (0.5 * normal(columns, seed=5)).exp()


@pytest.mark.parametrize("how", [{"axis": 0}, {"group": 20}, {}], ids=str)
@pytest.mark.parametrize("order", [True, False])
def test_gptq_beats_nearest(how, order):
    weight, inputs = layer()
    second = hessian(inputs)
    affine = fit("mse", weight, 4, symmetric=True, **how)
    codes = gptq(weight, second, affine, order=order)
    assert codes.dtype == torch.int32
    assert affine.low <= codes.min()
    assert codes.max() <= affine.high
    ours, theirs = (reconstruction(weight, affine.decode(c), second) for c in (codes, nearest(weight, affine)))
    assert (ours <= theirs).all()
    assert ours.sum() < 0.5 * theirs.sum()
    outputs = (inputs @ (weight - affine.decode(codes)).double().T).square().mean(0)
    assert torch.allclose(ours, outputs, rtol=1e-9)


def optimal_brain_surgeon(weight, second, affine, damping=0.01):
    """GPTQ as it is derived: for each column the inverse Hessian of those that are left, by itself."""
    rest, codes = weight.double(), torch.zeros_like(weight, dtype=torch.int32)
    second = second + damping * second.diagonal().mean() * torch.eye(len(second))
    for i in range(weight.shape[1]):
        codes[:, i] = affine.codes(rest)[:, i]
        inverse = torch.linalg.inv(second[i:, i:])
        lost = rest[:, i] - affine.decode(codes)[:, i]
        rest[:, i:] = rest[:, i:] - torch.outer(lost / inverse[0, 0], inverse[0])
    return codes


@pytest.mark.parametrize("how", [{"axis": 0}, {"group": 20}], ids=str)
def test_gptq_is_the_optimal_brain_surgeon(how):
    weight, inputs = layer(rows=200, rank=48)
    second = hessian(inputs)
    affine = fit("mse", weight, 4, symmetric=False, **how)
    exact = optimal_brain_surgeon(weight, second, affine)
    theirs, plain = (reconstruction(weight, affine.decode(c), second) for c in (exact, nearest(weight, affine)))
    kept = (theirs <= plain).unsqueeze(1)
    assert 0.9 < kept.double().mean() < 1  # inputs that hardly go together: a few rows are better left alone
    assert torch.equal(gptq(weight, second, affine, order=False), torch.where(kept, exact, nearest(weight, affine)))


def test_gptq_with_nothing_to_gain_is_nearest():
    weight = normal(8, 12, dtype=torch.float32)
    affine = fit("min_max", weight, 4, symmetric=False, axis=0)
    for second in (torch.eye(12), torch.zeros(12, 12)):
        assert torch.equal(gptq(weight, second, affine), nearest(weight, affine))
    weight, inputs = layer()
    inputs[:, 5] = 0  # an input that is never on
    affine = fit("min_max", weight, 4, symmetric=True, axis=0)
    assert torch.equal(gptq(weight, hessian(inputs), affine)[:, 5], nearest(weight, affine)[:, 5])


def test_gptq_in_blocks_is_the_same(monkeypatch):
    weight, inputs = layer()
    affine = fit("min_max", weight, 4, symmetric=True, axis=0)
    whole = gptq(weight, hessian(inputs), affine)
    monkeypatch.setattr("nas.supernet.quantize.rounding.BLOCK", 7)
    assert torch.equal(gptq(weight, hessian(inputs), affine), whole)


@pytest.mark.parametrize(
    ("second", "says"),
    [(torch.eye(3), "shape"), (-torch.eye(4), "semi-definite"), (torch.eye(4) * math.nan, "semi-definite")],
    ids=["shape", "negative", "nan"],
)
def test_what_gptq_refuses(second, says):
    weight = normal(2, 4)
    with pytest.raises(UserError, match=says):
        gptq(weight, second, fit("min_max", weight, 4, symmetric=True, axis=0))


# RepQ


def norm_and_linears(channels=16):
    gamma = torch.logspace(-1, 1, channels, dtype=torch.float64)
    linears = [(normal(20, channels, seed=1), normal(20, seed=2)), (normal(8, channels, seed=3), None)]
    return gamma, normal(channels, seed=4) * gamma, linears


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("has_beta", [True, False])
def test_repq_changes_neither_outputs_nor_codes(symmetric, has_beta):
    gamma, beta, linears = norm_and_linears()
    n = layer_norm(normal(100, 16), (16,))
    x = n * gamma + (beta if has_beta else 0)
    affine = fit("min_max", x, 4, symmetric=symmetric, axis=-1)
    r = reparameterize(gamma, beta if has_beta else None, linears, affine)
    x1 = n * r.gamma + r.beta
    for (w, b), (w1, b1) in zip(linears, r.linears, strict=True):
        assert torch.allclose(x1 @ w1.T + b1, x @ w.T + (0 if b is None else b), rtol=1e-12, atol=1e-12)
    scale, zero = r.affine.scale, r.affine.zero
    assert scale.shape == zero.shape == ()
    assert zero == affine.zero.double().mean().round()
    assert torch.allclose(x1 / scale + zero, x / affine.scale + affine.zero, rtol=1e-12, atol=1e-12)
    assert torch.equal(r.affine.codes(x1), affine.codes(x))
    assert torch.allclose((x1 - r.affine(x1)) * affine.scale / scale, x - affine(x), atol=1e-12)
    if symmetric and not has_beta:
        assert (r.beta == 0).all()  # an RMSNorm needs no bias


@pytest.mark.parametrize(("groups", "taps"), [(1, (3, 3)), (4, (1, 3)), (16, (3, 2)), (2, (5,))], ids=str)
def test_repq_changes_no_output_of_a_convolution(groups, taps):
    gamma, beta, _ = norm_and_linears()
    n = normal(3, 16, *(9 for _ in taps), seed=7)
    by_channel = (1, 16, *(1 for _ in taps))
    x = n * gamma.view(by_channel) + beta.view(by_channel)
    weight, bias = normal(32, 16 // groups, *taps, seed=1), normal(32, seed=2)
    r = reparameterize(gamma, beta, [(weight, bias)], fit("min_max", x, 4, symmetric=False, axis=1))
    convolve = torch.nn.functional.conv2d if len(taps) == 2 else torch.nn.functional.conv1d
    ((w1, b1),) = r.linears
    ours = convolve(n * r.gamma.view(by_channel) + r.beta.view(by_channel), w1, b1, groups=groups)
    assert torch.allclose(ours, convolve(x, weight, bias, groups=groups), rtol=1e-10, atol=1e-10)


def test_repq_needs_a_scale_for_each_channel():
    gamma, beta, linears = norm_and_linears()
    with pytest.raises(UserError, match="16 channels"):
        reparameterize(gamma, beta, linears, fit("min_max", gamma, 4, symmetric=True))
