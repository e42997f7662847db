"""Nets whose forward is a chain of stages: what lets nets that begin alike be run together."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

Stage = Callable[[Any], Any]
"""From the state that the stage before left (first: the net's input) to the state of the next (last: the output)."""


class Staged(nn.Module):
    """A net that runs its stages one after the other; subclasses give `stages()` and have no forward of their own.

    A stage sees nothing but its state and what it holds: a module, or a `functools.partial` of a module-level function
    with modules, parameters and constants. The smaller what it holds, the more nets share it; a bound method of the net
    holds all of the net, and a lambda equals no other.
    """

    def stages(self) -> Sequence[Stage]:
        """The stages in order, made anew: they hold the parameters that are in place now."""
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        for stage in self.stages():
            x = stage(x)
        return x


def stages_of(net: nn.Module) -> list[Stage] | None:
    """The finest chain of stages whose run is `net(x)`: of a `Staged` and of `nn.Sequential`; None for other nets."""
    if not _runs_as_its_class(net):
        return None
    if type(net).forward is Staged.forward and isinstance(net, Staged):
        stages: Sequence[Stage] = net.stages()
    elif type(net).forward is nn.Sequential.forward and isinstance(net, nn.Sequential):
        stages = list(net)
    else:
        return None
    return [part for stage in stages for part in _parts(stage)]


def _parts(stage: Stage) -> list[Stage]:
    inner = stages_of(stage) if isinstance(stage, nn.Module) else None
    return [stage] if inner is None else inner


def _runs_as_its_class(net: nn.Module) -> bool:
    """Whether calling it is calling its class's forward: no hooks, no forward of the object's own."""
    plain = type(net).__call__ is nn.Module.__call__ and not {"forward", "stages", "_compiled_call_impl"} & {
        name for name, value in vars(net).items() if value is not None
    }
    return plain and not net._forward_hooks and not net._forward_pre_hooks
