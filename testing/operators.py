"""The contract of an operator: shapes, nesting, causality, gradients, independence of rows, ONNX."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..search_space.corner import fits
from ..search_space.layout import layouts_of
from ..search_space.operators.base import GIVEN, Context, Operator, operator
from .suite import Checks, Suite, run_all

SUITE: Suite[Operator] = Suite()
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
MEMORY: Mapping[str, tuple[int, ...]] = {"rotary": (TOKENS, 2), "embedding": (CLASSES, WIDTH)}  # by head_dim 4
SIZES: Mapping[str, tuple[int, int]] = {"kv_heads": (1, 3), "group": (1, 2), "hidden": (8, 48)}  # small, large


def check_operator(slot: str, name: str) -> None:
    """Hold a registered operator to its contract: every check of `operator_checks`, until one fails.

    Needs onnxruntime where the operator's flag says that it exports. Errors: AssertionError, with the name of the
    check and what it saw; `nas.UserError` where there is no such operator.

    >>> nas.testing.check_operator("ffn", "swiglu")
    """
    run_all(operator_checks(slot, name))


def operator_checks(slot: str, name: str) -> Checks:
    """The checks of an operator by name; each is a function without arguments that raises AssertionError.

    They call it on inputs of shape (2, 16, 24): batch, tokens (a grid of 4 x 4 where it can), channels.

    >>> @pytest.mark.parametrize("check", nas.testing.operator_checks("ffn", "swiglu").values())
    ... def test_swiglu(check):
    ...     check()
    """
    return SUITE.of(operator(slot, name))  # type: ignore[arg-type]


def layout_of(entry: Operator) -> str:
    """The most demanding layout that the operator accepts."""
    return next(layout for layout in ("grid", "sequence", "set") if layout in entry.capabilities.layouts)


def make(entry: Operator, large: bool = True, width: int = WIDTH, device: str = "cpu") -> nn.Module:
    """The operator at the large or the small end of every size and gene; alternatives at their first."""
    at: dict[str, Any] = {**FACTS, **{name: ends[large] for name, ends in SIZES.items()}}
    if "classes" in entry.parameters:  # a readout: where it asks for the vocabulary too, outputs are tokens
        at["vocabulary"] = CLASSES
    at["input_shape"] = (3, 8, 8) if layout_of(entry) == "grid" else (TOKENS,)
    for gene, options in entry.genes.items():
        numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options)
        at[gene] = options[0] if not numbers else max(options) if large else min(options)  # type: ignore[type-var]
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        return entry.cls(width, **{p: at[p] for p in entry.parameters}).eval()


def context_of(entry: Operator, causal: bool = False, prefix: int = 0) -> Context:
    grid = GRID if layout_of(entry) == "grid" else None
    memory = {name: noise(MEMORY.get(name, (TOKENS, WIDTH)), 5) for name in entry.capabilities.reads}
    return Context(grid=grid, causal=causal, prefix=prefix, layer=1, memory=memory)


def input_of(entry: Operator, batch: int = BATCH, prefix: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if entry.kind != "stem":
        return torch.randn((batch, prefix + TOKENS, WIDTH), generator=generator)
    if "vocabulary" in entry.parameters:
        return torch.randint(0, 11, (batch, TOKENS), generator=generator)
    return torch.randn((batch, 3, 8, 8) if layout_of(entry) == "grid" else (batch, TOKENS), generator=generator)


def noise(shape: torch.Size | tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keeps_tokens(entry: Operator) -> bool:
    return entry.kind not in ("stem", "readout") and not entry.capabilities.changes_tokens


@SUITE.add()
def signature(entry: Operator) -> None:
    parameters = list(inspect.signature(entry.cls).parameters)
    assert parameters[0] == "width", "the first parameter of the constructor is `width`"
    assert all(p in GIVEN or p in entry.genes for p in entry.parameters), "a parameter is neither a fact nor a gene"
    for gene, options in entry.genes.items():
        assert gene not in GIVEN, f"gene {gene!r} has the name of a fact"
        assert gene in entry.parameters, f"gene {gene!r} is no parameter of the constructor"
        assert len(options) > 0, f"gene {gene!r} has no options"
    assert list(inspect.signature(entry.cls.forward).parameters) == ["self", "x", "context"], (
        "forward(self, x, context)"
    )
    assert entry.summary, "the class has no docstring"


@SUITE.add()
def builds_on_meta_and_real_with_the_same_shapes(entry: Operator) -> None:
    for large in (False, True):
        real, meta = (make(entry, large, device=device) for device in ("cpu", "meta"))
        assert all(p.is_meta for p in meta.parameters()), "a parameter is built on another device than the default one"
        assert not any(b.is_meta for b in meta.buffers()), "a buffer is on the meta device: give constants a device"
        shapes = [[(n, p.shape) for n, p in built.named_parameters()] for built in (real, meta)]
        assert shapes[0] == shapes[1], "its parameters differ on the meta device"


@SUITE.add()
def output_shape(entry: Operator) -> None:
    for device in ("cpu", "meta"):
        y = make(entry, device=device)(input_of(entry).to(device), context_of(entry))
        assert y.shape[0] == BATCH, f"the output has the shape {tuple(y.shape)} for a batch of {BATCH}"
        if entry.kind == "readout":
            shapes = ((BATCH, CLASSES), (BATCH, TOKENS, CLASSES), (BATCH, CLASSES, 8, 8))
            assert y.shape in shapes, f"the output has the shape {tuple(y.shape)} for {CLASSES} classes"
        elif not entry.capabilities.changes_tokens:
            assert y.shape == (BATCH, TOKENS, WIDTH), f"the output has the shape {tuple(y.shape)}"


@SUITE.add(lambda entry: entry.kind == "stem")
def a_stem_says_what_it_makes(entry: Operator) -> None:
    stem: Any = make(entry)
    assert len(entry.capabilities.layouts) == 1, "a stem makes one layout"
    assert (stem.grid == GRID) if layout_of(entry) == "grid" else (stem.grid is None), f"its grid is {stem.grid}"
    assert stem.tokens == TOKENS, f"it says {stem.tokens} tokens"


@SUITE.add(lambda entry: entry.kind != "stem")
def accepts_every_layout_that_it_claims(entry: Operator) -> None:
    for layout in entry.capabilities.layouts:
        context = Context(grid=GRID if layout == "grid" else None)
        context.memory |= context_of(entry).memory
        assert make(entry)(input_of(entry), context).isfinite().all(), f"the output on a {layout} is not finite"


@SUITE.add(lambda entry: keeps_tokens(entry) and entry.kind != "position")  # positions are added before the prefix
def prefix_tokens_keep_their_place(entry: Operator) -> None:
    x = input_of(entry, prefix=2)
    y = make(entry)(x, context_of(entry, prefix=2))
    assert y.shape == x.shape, f"with 2 prefix tokens {tuple(x.shape)} becomes {tuple(y.shape)}"


@SUITE.add(lambda entry: keeps_tokens(entry) and entry.kind == "mixer" and entry.name != "none")
def prefix_tokens_see_the_others(entry: Operator) -> None:
    x = input_of(entry, prefix=1)
    moved = x.clone()
    moved[:, 1:] += noise(moved[:, 1:].shape, 2)
    module = make(entry)
    before, after = (module(z, context_of(entry, prefix=1))[:, 0] for z in (x, moved))
    assert not torch.allclose(before, after), "the prefix token is the same whatever the others are"


@SUITE.add(keeps_tokens)
def the_causal_flag_is_honest(entry: Operator) -> None:
    x, cut = input_of(entry), TOKENS // 2
    changed = x.clone()
    changed[:, cut:] += 1 + noise((BATCH, TOKENS - cut, WIDTH), 3)
    module, context = make(entry), context_of(entry, causal=True)
    before, after = module(x, context)[:, :cut], module(changed, context)[:, :cut]
    causal = torch.allclose(before, after, atol=1e-6)
    assert causal == entry.capabilities.causal, f"it is flagged causal={entry.capabilities.causal}, but is {causal}"


@SUITE.add(lambda entry: bool(entry.capabilities.reads))
def what_it_reads_changes_its_output(entry: Operator) -> None:
    module, x = make(entry), input_of(entry)
    for name in entry.capabilities.reads:
        context, other = context_of(entry), context_of(entry)
        other.memory[name] = other.memory[name] + 1 + noise(other.memory[name].shape, 6)
        assert not torch.allclose(module(x, context), module(x, other)), f"{name!r} in its context changes nothing"


@SUITE.add()
def it_leaves_what_it_says(entry: Operator) -> None:
    context = context_of(entry)
    before = set(context.memory)
    make(entry)(input_of(entry), context)
    left = set(context.memory) - before
    assert left == entry.capabilities.leaves, f"it leaves {sorted(left)}, not {sorted(entry.capabilities.leaves)}"


@SUITE.add()
def the_small_one_is_a_corner_of_the_large_one(entry: Operator) -> None:
    for narrow in (WIDTH, WIDTH - 8):
        large, small = layouts_of(make(entry), {}), layouts_of(make(entry, large=False, width=narrow), {})
        for name, layout in small.items():
            assert name in large, f"{name} is in the small one alone"
            assert fits(layout, large[name]), f"{name} is {layout} in the small one and {large[name]} in the large one"


@SUITE.add()
def gradient_reaches_every_parameter(entry: Operator) -> None:
    module = make(entry).train()
    y = module(input_of(entry), context_of(entry))
    if any(True for _ in module.parameters()):
        (y * noise(y.shape, 4)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.abs().sum() > 0, f"the gradient of {name} is zero"


@SUITE.add()
def a_row_does_not_depend_on_the_others(entry: Operator) -> None:
    module, x = make(entry), input_of(entry, batch=3)
    alone, among = module(x[1:2], context_of(entry)), module(x, context_of(entry))[1:2]
    assert torch.allclose(among, alone, atol=1e-5), "a row of a batch has another output than alone"


@SUITE.add()
def evaluation_is_deterministic_and_leaves_its_input_alone(entry: Operator) -> None:
    module, x = make(entry), input_of(entry)
    kept = x.clone()
    same = torch.equal(module(x, context_of(entry)), module(x, context_of(entry)))
    assert same, "two calls in evaluation mode differ"
    assert torch.equal(x, kept), "it changes its input"


class Alone(nn.Module):
    """An operator with its context made inside, as the skeleton does."""

    def __init__(self, entry: Operator) -> None:
        super().__init__()
        self.operator, self.context = make(entry), context_of(entry)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.operator(x, replace(self.context, memory={**self.context.memory}))
        return y


@SUITE.add(lambda entry: entry.capabilities.onnx)
def onnx_computes_the_same(entry: Operator) -> None:
    import onnxruntime

    module, x = Alone(entry).eval(), input_of(entry)
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None, "it cannot be exported"
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    inputs = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(inputs, [x.numpy()], strict=False)))
    off = float((torch.from_numpy(y) - module(x).detach()).abs().max())
    assert off < 1e-4, f"the exported one is off by {off:.2g}"
