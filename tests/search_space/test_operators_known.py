"""Operators against references that were computed in another way."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.errors import UserError
from nas.search_space.operators.attention import Attention
from nas.search_space.operators.base import Capabilities, Context, operator, register
from nas.search_space.operators.mixers.conv import Conv
from nas.search_space.operators.mixers.dconv import MultiDconv
from nas.search_space.operators.mixers.linear import LinearAttention
from nas.search_space.operators.mixers.pool import Pool
from nas.search_space.operators.mixers.softmax import Softmax
from nas.search_space.operators.mixers.window import Window
from nas.search_space.operators.norms.rmsnorm import RmsNorm
from nas.search_space.operators.partition import from_map, from_windows, to_map, to_windows
from nas.search_space.operators.positions.rotary import Rotary


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def share(to: nn.Module, source: nn.Module) -> None:
    to.load_state_dict(source.state_dict())


def heads_of(mixer: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as (B, K*G, N, C), each key head repeated for its group, by indexing plain matrices."""
    kv_heads, group, head_dim = mixer.sizes
    q, k, v = (F.linear(x, m.weight, m.bias) for m in (mixer.q, mixer.k, mixer.v))
    queries = torch.stack([q[..., h * head_dim : (h + 1) * head_dim] for h in range(kv_heads * group)], 1)
    keys, values = (
        torch.stack([t[..., (h // group) * head_dim :][..., :head_dim] for h in range(kv_heads * group)], 1)
        for t in (k, v)
    )
    return queries, keys, values


def joined(mixer: Attention, y: Tensor) -> Tensor:
    return F.linear(torch.cat(list(y.unbind(1)), -1), mixer.o.weight, mixer.o.bias)


def test_multi_head_equals_torch() -> None:
    mixer, reference, x = Softmax(24, 3, 1, 8), nn.MultiheadAttention(24, 3, batch_first=True), torch.randn(2, 7, 24)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([mixer.q.weight, mixer.k.weight, mixer.v.weight]))
        reference.in_proj_bias.copy_(torch.cat([mixer.q.bias, mixer.k.bias, mixer.v.bias]))
        reference.out_proj.load_state_dict(mixer.o.state_dict())
    assert torch.allclose(mixer(x, Context()), reference(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(("kv_heads", "group"), [(1, 1), (1, 4), (2, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries_equal_repeated_keys(kv_heads: int, group: int, causal: bool) -> None:
    mixer, x = Softmax(24, kv_heads, group, 8), torch.randn(2, 7, 24)
    q, k, v = heads_of(mixer, x)
    scores = q @ k.transpose(2, 3) / 8**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
    expected = joined(mixer, scores.softmax(-1) @ v)
    assert torch.allclose(mixer(x, Context(causal=causal)), expected, atol=1e-6)


def test_sparse_queries_with_all_heads_are_multi_head_attention() -> None:
    """SQA (arXiv:2510.01817): query heads and key/value heads below the full number are corners of it."""
    full, half, x = Softmax(32, 4, 1, 8), Softmax(32, 2, 1, 8), torch.randn(2, 7, 32)
    with torch.no_grad():
        for name, weight in full.named_parameters():
            part = weight[tuple(map(slice, half.get_parameter(name).shape))]
            half.get_parameter(name).copy_(part)
        full.o.weight[:, 16:] = 0
    assert torch.allclose(half(x, Context()), full(x, Context()), atol=1e-6)


def with_angles(tokens: int, head_dim: int = 8, start: int = 0, prefix: int = 0) -> Context:
    context = Context(causal=True, positions=torch.arange(start, start + tokens))
    Rotary(32, head_dim)(torch.zeros(1, tokens, 32), context)
    context.prefix = prefix
    return context


@pytest.mark.parametrize("cls", [Softmax, MultiDconv])
def test_rotary_positions_are_relative(cls: type[Attention]) -> None:
    mixer, x = cls(32, 2, 2, 8), torch.randn(2, 7, 32)
    y, moved = mixer(x, with_angles(7)), mixer(x, with_angles(7, start=5))
    assert torch.allclose(y, moved, atol=1e-5)
    assert not torch.allclose(y, mixer(x, Context(causal=True)), atol=1e-3)


def test_rotary_scores_are_those_of_complex_numbers() -> None:
    mixer, x = Softmax(32, 1, 1, 8), torch.randn(1, 5, 32)
    q, k, v = (t[:, 0] for t in heads_of(mixer, x))
    rates = 10_000.0 ** (-torch.arange(4) / 4)
    turns = torch.polar(torch.ones(5, 4), torch.arange(5)[:, None] * rates)
    q, k = (torch.view_as_real(torch.complex(t[..., :4], t[..., 4:]) * turns).flatten(-2) for t in (q, k))
    scores = (q @ k.mT / 8**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    expected = mixer.o(scores.softmax(-1) @ v)
    assert torch.allclose(mixer(x, with_angles(5)), expected, atol=1e-5)


def test_prefix_tokens_are_not_turned() -> None:
    mixer, x = Softmax(32, 2, 1, 8), torch.randn(2, 1, 32)
    assert torch.equal(mixer(x, with_angles(0, prefix=1)), mixer(x, Context(causal=True)))


def test_an_odd_head_has_no_rotary_positions() -> None:
    with pytest.raises(UserError, match="even, got 5"):
        Rotary(32, 5)


def test_convolved_heads_equal_torch() -> None:
    mixer, plain, x = MultiDconv(32, 2, 2, 8), Softmax(32, 2, 2, 8), torch.randn(2, 7, 32)
    plain.load_state_dict({n: t for n, t in mixer.state_dict().items() if "conv" not in n})

    def convolved(t: Tensor, weight: Tensor) -> Tensor:
        y = F.conv1d(F.pad(t.mT, (2, 0)), weight.flip(1)[:, None], groups=len(weight))
        return y.mT

    assert mixer.q_conv.weight[0].tolist() == pytest.approx([0.5, 0.5 / 3, 0.5 / 3])
    nn.init.normal_(mixer.q_conv.weight)
    pairs = ((mixer.q, mixer.q_conv), (mixer.k, mixer.k_conv), (mixer.v, mixer.v_conv))
    heads = plain.split(*(convolved(linear(x), conv.weight) for linear, conv in pairs))
    expected = plain.attend(*heads, Context(causal=True))
    assert torch.allclose(mixer(x, Context(causal=True)), expected, atol=1e-5)


def test_padding_before_a_token_is_no_neighbour_of_it() -> None:
    mixer, x = MultiDconv(32, 2, 1, 8), torch.randn(2, 7, 32)
    mask = torch.arange(7).expand(2, 7) >= 2
    outputs = [mixer(torch.cat([noise, x[:, 2:]], 1), Context(mask=mask))[:, 2:] for noise in (x[:, :2], -x[:, :2])]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("cls", [Softmax, LinearAttention])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_not_seen(cls: type[Attention], causal: bool) -> None:
    mixer, x = cls(24, 2, 2, 8), torch.randn(2, 7, 24)
    mask = torch.arange(7).expand(2, 7) < 5
    with_padding = mixer(x, Context(mask=mask, causal=causal and cls is Softmax))[:, :5]
    without = mixer(x[:, :5], Context(causal=causal and cls is Softmax))
    assert torch.allclose(with_padding, without, atol=1e-6)


def test_linear_attention_equals_its_quadratic_form() -> None:
    mixer, x = LinearAttention(24, 2, 2, 8), torch.randn(2, 7, 24)
    q, k, v = heads_of(mixer, x)
    scores = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(2, 3)
    expected = joined(mixer, scores / scores.sum(-1, keepdim=True) @ v)
    assert torch.allclose(mixer(x, Context()), expected, atol=1e-5)


@pytest.mark.parametrize("window", [5, 8])
def test_a_window_over_the_whole_grid_is_full_attention(window: int) -> None:
    mixer, full, x = Window(24, 2, 2, 8, window), Softmax(24, 2, 2, 8), torch.randn(2, 15, 24)
    share(full, mixer)
    assert torch.allclose(mixer(x, Context(grid=(3, 5))), full(x, Context()), atol=1e-6)


@pytest.mark.parametrize(("grid", "window"), [((4, 4), 2), ((5, 7), 3), ((3, 4), 2)])
def test_windows_do_not_mix(grid: tuple[int, int], window: int) -> None:
    """Each window, cut by hand, through full attention gives the same; so padding is not seen either."""
    mixer, full = Window(24, 2, 1, 8, window), Softmax(24, 2, 1, 8)
    share(full, mixer)
    x = torch.randn(2, grid[0] * grid[1], 24)
    expected = torch.empty(2, *grid, 24)
    for row in range(0, grid[0], window):
        for column in range(0, grid[1], window):
            cut = (slice(None), slice(row, row + window), slice(column, column + window))
            part = x.view(2, *grid, 24)[cut]
            expected[cut] = full(part.flatten(1, 2), Context()).view(part.shape)
    assert torch.allclose(mixer(x, Context(grid=grid)), expected.flatten(1, 2), atol=1e-6)


@pytest.mark.parametrize("edge", [1, 2, 3, 4, 6])
def test_cutting_and_joining_give_the_map_back(edge: int) -> None:
    context, x = Context(grid=(4, 6), prefix=1), torch.randn(2, 25, 3)
    windows, real = to_windows(to_map(x, context), edge)
    y = from_map(from_windows(windows, edge, (4, 6)), context)
    assert torch.equal(y[:, 1:], x[:, 1:])
    assert torch.allclose(y[:, 0], x[:, 1:].mean(1), atol=1e-6)
    assert (real is None) == (4 % edge == 0 and 6 % edge == 0)
    assert real is None or int(real.sum()) == 2 * 24


@pytest.mark.parametrize("grid", [None, (3, 5)])
def test_pooling_a_constant_gives_zero(grid: tuple[int, int] | None) -> None:
    x = torch.randn(2, 1, 8).expand(2, 15, 8)
    assert Pool(8)(x, Context(grid=grid)).abs().max() < 1e-6


def test_conv_equals_torch() -> None:
    mixer, x = Conv(8, 5), torch.randn(2, 15, 8)
    taps = torch.cat(list(mixer.rings), 1)
    kernel = torch.stack([taps[:, place] for place in mixer.order.tolist()], 1).view(8, 1, 5, 5)
    reference = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    reference.load_state_dict({"weight": kernel, "bias": mixer.bias})
    expected = reference(x.transpose(1, 2).view(2, 8, 3, 5)).flatten(2).transpose(1, 2)
    assert torch.allclose(mixer(x, Context(grid=(3, 5))), expected, atol=1e-6)


def test_a_small_kernel_is_the_large_one_without_its_outer_rings() -> None:
    large, small, x = Conv(8, 7), Conv(8, 3), torch.randn(2, 20, 8)
    small.load_state_dict({name: large.state_dict()[name] for name in small.state_dict()})
    with torch.no_grad():
        for ring in list(large.rings)[2:]:
            ring.zero_()
    assert torch.allclose(small(x, Context(grid=(4, 5))), large(x, Context(grid=(4, 5))), atol=1e-6)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="odd kernel"):
        Conv(8, 4)


def test_rmsnorm_gives_unit_root_mean_square() -> None:
    y = RmsNorm(16)(7 * torch.randn(2, 3, 16), Context())
    assert torch.allclose(y.square().mean(-1), torch.ones(2, 3), atol=1e-4)


def test_unknown_names_list_the_nearest_first() -> None:
    with pytest.raises(UserError, match="unknown mixer 'windw'; valid: window"):
        operator("mixer", "windw")


def test_a_name_twice_is_refused() -> None:
    operator("mixer", "softmax")
    with pytest.raises(UserError, match="registered twice"):
        register("mixer", "softmax")(Pool)


def test_a_parameter_that_nobody_fills_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self, width: int, colour: int) -> None:
            super().__init__()
            self.sizes = (width, colour)

    with pytest.raises(UserError, match="'colour'"):
        register("mixer", "odd", Capabilities())(Odd)
