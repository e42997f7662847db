"""The contract of every operator. A new file in a folder of operators is picked up by itself."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nas.search_space.layout import layouts_of
from nas.search_space.operators.base import GIVEN, Context, Operator, operators

BATCH, WIDTH, GRID, CLASSES = 2, 24, (4, 4), 5
TOKENS = GRID[0] * GRID[1]
FACTS: Mapping[str, Any] = {
    "head_dim": 4,
    "activation": "gelu",
    "layer": 1,
    "tokens": TOKENS,
    "grid": GRID,
    "patch": 2,
    "vocabulary": 11,
    "classes": CLASSES,
}
SIZES: Mapping[str, tuple[int, int]] = {"kv_heads": (1, 3), "group": (1, 2), "hidden": (8, 48)}  # small, large

ALL = operators()
ON_TOKENS = [e for e in ALL if e.kind != "stem"]
KEEPS_TOKENS = [e for e in ON_TOKENS if e.kind != "readout" and not e.capabilities.changes_tokens]


def named(entries: list[Operator]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", entries, ids=lambda e: f"{e.kind}-{e.name}")


def layout_of(entry: Operator) -> str:
    """The most demanding layout that the operator accepts."""
    return next(layout for layout in ("grid", "sequence", "set") if layout in entry.capabilities.layouts)


def make(entry: Operator, large: bool = True, width: int = WIDTH, device: str = "cpu") -> nn.Module:
    """The operator at the large or the small end of every size and gene; alternatives at their first."""
    at: dict[str, Any] = {**FACTS, **{name: ends[large] for name, ends in SIZES.items()}}
    at["input_shape"] = (3, 8, 8) if layout_of(entry) == "grid" else (TOKENS,)
    for gene, options in entry.genes.items():
        numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options)
        at[gene] = options[0] if not numbers else max(options) if large else min(options)
    torch.manual_seed(0)
    with torch.device(device):
        module: nn.Module = entry.cls(width, **{p: at[p] for p in entry.parameters})
    return module.eval()


def context_of(entry: Operator, causal: bool = False, prefix: int = 0) -> Context:
    return Context(grid=GRID if layout_of(entry) == "grid" else None, causal=causal, prefix=prefix, layer=1)


def input_of(entry: Operator, batch: int = BATCH, prefix: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if entry.kind != "stem":
        return torch.randn((batch, prefix + TOKENS, WIDTH), generator=generator)
    if "vocabulary" in entry.parameters:
        return torch.randint(0, 11, (batch, TOKENS), generator=generator)
    return torch.randn((batch, 3, 8, 8) if layout_of(entry) == "grid" else (batch, TOKENS), generator=generator)


@named(ALL)
def test_signature(entry: Operator) -> None:
    parameters = list(inspect.signature(entry.cls).parameters)
    assert parameters[0] == "width"
    assert all(p in GIVEN or p in entry.genes for p in entry.parameters)
    assert all(gene in entry.parameters and len(options) > 0 for gene, options in entry.genes.items())
    assert list(inspect.signature(entry.cls.forward).parameters) == ["self", "x", "context"]
    assert entry.summary
    assert entry.cls.__module__.rsplit(".", 2)[-2] == f"{entry.kind}s"


def test_a_gene_has_the_same_options_wherever_it_is_named() -> None:
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    for entry in ALL:
        for gene, options in entry.genes.items():
            assert gene not in GIVEN
            assert seen.setdefault((entry.kind, gene), options) == options, f"{entry.name}: {gene}"


@named(ALL)
@pytest.mark.parametrize("large", [False, True])
def test_builds_on_meta_and_real_with_the_same_shapes(entry: Operator, large: bool) -> None:
    real, meta = (make(entry, large, device=device) for device in ("cpu", "meta"))
    assert all(p.is_meta for p in meta.parameters())
    assert not any(b.is_meta for b in meta.buffers())
    assert [(n, p.shape) for n, p in real.named_parameters()] == [(n, p.shape) for n, p in meta.named_parameters()]


@named(ALL)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_output_shape(entry: Operator, device: str) -> None:
    y = make(entry, device=device)(input_of(entry).to(device), context_of(entry))
    assert y.shape[0] == BATCH
    if entry.kind == "readout":
        assert y.shape in ((BATCH, CLASSES), (BATCH, TOKENS, CLASSES), (BATCH, CLASSES, 8, 8))
    elif not entry.capabilities.changes_tokens:
        assert y.shape == (BATCH, TOKENS, WIDTH)


@named([e for e in ALL if e.kind == "stem"])
def test_a_stem_says_what_it_makes(entry: Operator) -> None:
    stem: Any = make(entry)
    assert len(entry.capabilities.layouts) == 1
    assert (stem.grid == GRID) if layout_of(entry) == "grid" else (stem.grid is None)
    assert stem.tokens == TOKENS


@named(ON_TOKENS)
def test_accepts_every_layout_that_it_claims(entry: Operator) -> None:
    for layout in entry.capabilities.layouts:
        context = Context(grid=GRID if layout == "grid" else None)
        assert make(entry)(input_of(entry), context).isfinite().all()


@named([e for e in KEEPS_TOKENS if e.kind != "position"])  # the skeleton adds positions before the prefix
def test_prefix_tokens_keep_their_place(entry: Operator) -> None:
    x = input_of(entry, prefix=2)
    y = make(entry)(x, context_of(entry, prefix=2))
    assert y.shape == x.shape


@named([e for e in KEEPS_TOKENS if e.kind == "mixer" and e.name != "none"])
def test_prefix_tokens_see_the_others(entry: Operator) -> None:
    x = input_of(entry, prefix=1)
    moved = x.clone()
    moved[:, 1:] += torch.randn(moved[:, 1:].shape, generator=torch.Generator().manual_seed(2))
    operator = make(entry)
    before, after = (operator(z, context_of(entry, prefix=1))[:, 0] for z in (x, moved))
    assert not torch.allclose(before, after)


@named(KEEPS_TOKENS)
def test_the_causal_flag_is_honest(entry: Operator) -> None:
    x, cut = input_of(entry), TOKENS // 2
    changed = x.clone()
    changed[:, cut:] += 1 + torch.randn(BATCH, TOKENS - cut, WIDTH, generator=torch.Generator().manual_seed(3))
    operator, context = make(entry), context_of(entry, causal=True)
    before, after = operator(x, context)[:, :cut], operator(changed, context)[:, :cut]
    assert torch.allclose(before, after, atol=1e-6) == entry.capabilities.causal


@named(ALL)
@pytest.mark.parametrize("narrow", [WIDTH, WIDTH - 8])
def test_the_small_one_is_a_corner_of_the_large_one(entry: Operator, narrow: int) -> None:
    large, small = layouts_of(make(entry), {}), layouts_of(make(entry, large=False, width=narrow), {})
    for name, layout in small.items():
        assert [len(factors) for factors in layout] == [len(factors) for factors in large[name]], name
        assert all(a <= b for f, g in zip(layout, large[name], strict=True) for a, b in zip(f, g, strict=True)), name


@named(ALL)
def test_gradient_reaches_every_parameter(entry: Operator) -> None:
    operator = make(entry).train()
    y = operator(input_of(entry), context_of(entry))
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(4))
    if any(True for _ in operator.parameters()):
        (y * weights).sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@named(ALL)
def test_a_row_does_not_depend_on_the_others(entry: Operator) -> None:
    operator, x = make(entry), input_of(entry, batch=3)
    alone = operator(x[1:2], context_of(entry))
    assert torch.allclose(operator(x, context_of(entry))[1:2], alone, atol=1e-5)


@named(ALL)
def test_evaluation_is_deterministic_and_leaves_its_input_alone(entry: Operator) -> None:
    operator, x = make(entry), input_of(entry)
    kept = x.clone()
    assert torch.equal(operator(x, context_of(entry)), operator(x, context_of(entry)))
    assert torch.equal(x, kept)


class Alone(nn.Module):
    """An operator with its context made inside, as the skeleton does."""

    def __init__(self, entry: Operator) -> None:
        super().__init__()
        self.entry, self.operator = entry, make(entry)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.operator(x, context_of(self.entry))
        return y


@pytest.mark.slow
@named([e for e in ALL if e.capabilities.onnx])
@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(entry: Operator) -> None:
    module, x = Alone(entry).eval(), input_of(entry)
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    inputs = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(inputs, [x.numpy()], strict=False)))
    assert np.abs(y - module(x).detach().numpy()).max() < 1e-4
