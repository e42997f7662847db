"""Nets of an adopted model made like it in closed form: their FFNs put out what makes up for what was cut.

Layer by layer, the last projection W of an FFN is fitted so that the residual stream behind the layer comes near to the
original's, behind the layers that were left out there (ridge regression on a few texts, towards W as it is). Where
layers are left out this is ReplaceMe's linear map (Shopkhoev et al. 2025), without the restriction that it is one of
what the FFN of the original puts out; where channels are, the least-squares reconstruction of pruning by layers (He et
al. 2017), which sees the errors of the layers before.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...search_space.adopted.family import Family
from ...search_space.adopted.space import AdoptedSpace
from ...search_space.architecture import GeneValue
from ...search_space.inputs import Inputs, call, map_tensors
from ...tasks import Task
from ..store import Supernet

SAMPLES = 16
"""Training samples that are fitted to, such as texts of 256 tokens."""
RIDGE = 0.3
"""How much W is held to what it is, beside the mean square of a hidden channel."""


@torch.no_grad()
def refit(
    supernet: Supernet,
    architecture: Mapping[str, GeneValue],
    task: Task,
    *,
    samples: int = SAMPLES,
    original: nn.Module | None = None,
) -> None:
    """Fit the FFNs of one net of an adopted model to it, in place: the shared weights are the net's own afterwards.

    task: whose training inputs are fitted to, as many as `samples`. original: None: the largest net as it is now.
    Takes the time of two forwards of these inputs. Other nets that share the weights, the largest too, change.
    Errors: a space that is not of an adopted model; layers that do not add to a residual stream (BERT's norms come
    after the sum).

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> supernet = nas.adopt(GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=8, n_layer=3, n_head=1)).eval())
    >>> short = supernet.space.architecture({**supernet.space.largest, "layers.1.heads": 0, "layers.1.ffn": 0})
    >>> rows = torch.randint(0, 64, (64, 16))
    >>> text = nas.Task.of((rows, rows), (rows, rows), loss=nn.functional.cross_entropy, output="logits")
    >>> nas.refit(supernet, short, text)
    """
    space = supernet.space.function
    if not isinstance(space, AdoptedSpace):
        raise UserError("only nets of an adopted model can be fitted to it; adopt one with nas.adopt(model)")
    net, teacher = supernet.extract(architecture), original or supernet.extract(supernet.space.largest)
    inputs = task.calibration_inputs(samples)
    for stack in space.stacks:
        fit(net, teacher, stack, inputs)
    full, corners = dict(supernet.store.named_parameters()), supernet.corners(architecture)
    for name, parameter in net.named_parameters():
        corners[name].write(parameter.data, full[name].data)


def fit(net: nn.Module, teacher: nn.Module, stack: Family, inputs: Inputs, ridge: float = RIDGE) -> None:
    """Fit the FFNs of a list of layers to those of the teacher, of which these are some. Error: as of `refit`."""
    layers = {int(name): layer for name, layer in stack.layers_of(net).named_children()}
    theirs = {int(name): layer for name, layer in stack.layers_of(teacher).named_children()}
    outputs = {i: part for i, layer in layers.items() if (part := dict(layer.named_modules()).get(stack.ffn_out))}
    _check_adds(layers, outputs, net, inputs)
    ends = dict(zip(layers, [*(i - 1 for i in list(layers)[1:]), max(theirs)], strict=True))
    needed = {ends[index] for index in outputs}
    wanted: dict[int, Tensor] = {}
    with _watched(theirs, lambda index, _, stream: wanted.update({index: stream}) if index in needed else None):
        _run(teacher, inputs)

    def fitted(index: int, hidden: Tensor, stream: Tensor) -> Tensor:
        change: Tensor = _regression(hidden.flatten(0, -2), (wanted.pop(ends[index]) - stream).flatten(0, -2), ridge)
        weight: Any = outputs[index].weight
        weight += change.T if isinstance(outputs[index], nn.Linear) else change  # transformers' Conv1D is transposed
        return stream + (hidden @ change)

    with _watched({i: layers[i] for i in outputs}, fitted, outputs):
        _run(net, inputs)


def _regression(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """The map (columns of x, columns of y) from rows of x to rows of y."""
    gram = (x.T @ x).double()
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    solved: Tensor = torch.linalg.solve(gram, (x.T @ y).double())
    return solved.to(x.dtype)


class _Enough(Exception):
    """Raised behind the last layer: what comes after it is not computed."""


Seen = Callable[[int, Tensor, Tensor], Tensor | None]
"""Of a layer: its place, what its FFN's last projection read, and the residual stream behind it. Returns the stream
that goes on, where that is another."""


@contextmanager
def _watched(
    layers: Mapping[int, nn.Module], seen: Seen, parts: Mapping[int, nn.Module] | None = None
) -> Iterator[None]:
    """Calls `seen` behind each layer of the forwards meanwhile, which end behind the last one.

    parts: the last projections; None: `seen` gets the stream in the place of what they read.
    """
    read: dict[int, Tensor] = {}

    def behind(index: int, outputs: Any) -> Any:
        is_tensor = isinstance(outputs, Tensor)
        stream = outputs if is_tensor else outputs[0]
        changed = seen(index, read.pop(index, stream), stream)
        if index == max(layers):
            raise _Enough
        return None if changed is None else changed if is_tensor else (changed, *outputs[1:])

    hooks = [m.register_forward_hook(lambda _, __, out, i=i: behind(i, out)) for i, m in layers.items()]
    for i, part in (parts or {}).items():
        hooks.append(part.register_forward_pre_hook(lambda _, args, i=i: read.update({i: args[0]})))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run(net: nn.Module, inputs: Inputs) -> None:
    with suppress(_Enough):
        call(net, inputs)


def _check_adds(layers: Mapping[int, nn.Module], outputs: Mapping[int, Any], net: nn.Module, inputs: Inputs) -> None:
    """Error: the first layer does not add what its FFN puts out to the stream, which takes two forwards to see."""
    first = min(outputs)
    one, weight = map_tensors(lambda t: t[:1], inputs), outputs[first].weight
    streams: list[Tensor] = []
    put: list[Tensor] = []
    hook = outputs[first].register_forward_hook(lambda _, __, out: put.append(out.clone()))
    kept = weight.clone()
    with _watched({first: layers[first]}, lambda _, __, stream: streams.append(stream.clone())):
        for _ in range(2):
            _run(net, one)
            weight.zero_()
    hook.remove()
    weight.copy_(kept)
    if not torch.allclose(streams[0] - streams[1], put[0] - put[1], atol=1e-3 * float(put[0].abs().max())):
        raise UserError(
            f"the layers of {type(net).__name__} do not add what their FFNs put out to a stream that goes on as it is, "
            "so they cannot be fitted to the original; train the net without"
        )
