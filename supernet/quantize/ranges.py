"""What numbers of half precision hold (up to 65,504), and what must be finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...errors import NotFinite
from ...hw_profiles.cost.integers import HALF, beyond_half
from ...search_space.quantization import FORMATS, policy_of


@contextmanager
def within_halves(net: nn.Module) -> Iterator[None]:
    """While the net runs. Error: a part in fp16 whose weights, inputs or outputs half precision does not hold."""
    halves = [name for name, scheme in policy_of(net).items() if scheme == FORMATS["fp16"]]
    handles = [net.get_submodule(name).register_forward_hook(partial(_look, name)) for name in halves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _look(name: str, module: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
    for what, x in (("weights", module.weight), ("inputs", given[0]), ("outputs", output)):
        if x.is_floating_point() and x.numel() and not x.abs().max() <= HALF:
            raise beyond_half(name, what, float(x.min()), float(x.max()))


def check_finite(net: nn.Module) -> None:
    """Error: a parameter that holds NaN or infinity."""
    for name, parameter in net.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            raise NotFinite(
                f"{name} holds NaN or infinity, and no code stands for them; quantize a net of finite weights"
            )
