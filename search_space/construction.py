"""Running a space function once: its module, the constants that it holds, and errors that name the place."""

import traceback
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from .inputs import Inputs, call, map_tensors
from .trial import RecordingTrial
from .watching import Watching

MOST_NAMED = 6
WRITES = frozenset(getattr(torch.ops.aten, name) for name in ("uniform_", "normal_", "fill_", "zero_", "erfinv_"))
LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent)


class Created(Watching):
    """Remembers every tensor that operators return meanwhile, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors: list[ref[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in WRITES and args[0].is_meta:
            return args[0]  # initialisation: there are no values to change
        out = func(*args, **(kwargs or {}))
        tensors = (out,) if isinstance(out, Tensor) else tree_leaves(out)
        self._tensors += [ref(t) for t in tensors if isinstance(t, Tensor)]
        return out

    def constants_of(self, module: nn.Module) -> list[Tensor]:
        """What is still alive and no parameter of `module`: buffers, and tensors in attributes, lists and closures."""
        parameters = {id(p) for p in module.parameters()}
        alive = {id(t): t for t in (*(r() for r in self._tensors), *module.buffers()) if t is not None}
        return [t for key, t in alive.items() if key not in parameters]


def construct(function: Callable[[Any], nn.Module], trial: RecordingTrial, device: str) -> nn.Module:
    """`function(trial)` with tensors on `device`. Errors: what it raises, in one sentence; no module; lazy layers."""
    try:
        with torch.device(device):
            module = function(trial)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(_raised(error, trial)) from error
    if not isinstance(module, nn.Module):
        raise UserError(f"the space function returned {type(module).__name__}; it must return a torch.nn.Module")
    lazy = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if is_lazy(tensor)]
    if lazy:
        raise UserError(
            f"the space function returned a net whose {lazy[0]} has no shape yet; pass an input that reaches it, "
            "nas.SearchSpace(function, example=inputs), or give lazy layers their sizes"
        )
    return module


def constructed_light(function: Callable[[Any], nn.Module], trial: RecordingTrial) -> nn.Module:
    """`function(trial)` on the meta device; for real where its code reads values or the net holds constants."""
    try:
        with Created() as created:
            net = construct(function, trial, "meta")
        if not any(t.is_meta for t in created.constants_of(net)):
            return net
    except UserError as error:
        if error.__cause__ is None:
            raise  # ours; any other may be the meta device's
    return construct(function, trial, "cpu")


def materialised(function: Callable[[Any], nn.Module], example: Inputs, trial: Any) -> nn.Module:
    """`function(trial)`, whose lazy layers take their shapes from one call with `example` (on the default device)."""
    module = function(trial)
    if isinstance(module, nn.Module) and any(is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        modes = [(part, part.training) for part in module.modules()]
        with torch.no_grad():
            call(module.eval(), map_tensors(lambda x: x.to(torch.get_default_device()), example))
        for part, training in modes:
            part.training = training
    return module


def _raised(error: BaseException, trial: RecordingTrial) -> str:
    what = "called sys.exit" if isinstance(error, SystemExit) else f"raised {type(error).__name__}"
    reason = shorten(str(error), 200)
    place, changed = _place(error), {n: v for n, v in trial.values.items() if v != trial.genes[n].top}
    genes = ", ".join(f"{n}={v!r}" for n, v in list(changed.items())[-MOST_NAMED:])
    return (
        f"the space function {what}{': ' if reason else ''}{reason}"
        + (f" ({place})" if place else "")
        + (f" where {genes} and every other gene is at its top" if genes else "")
    )


def _place(error: BaseException) -> str:
    """File and line of the user's code that raised, or that called the library which did."""
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) == 1:
        return "it must take one argument, the trial"  # the call itself failed
    theirs = [f for f in frames if not any(Path(f.filename).is_relative_to(library) for library in LIBRARIES)]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else ""


def bytes_of(tensors: list[Tensor]) -> int:
    """Memory that the values of `tensors` take, shared ones once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors if not t.is_meta}
    return sum(storages.values())
