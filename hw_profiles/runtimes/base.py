"""What every runtime offers, and what they share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from ...errors import UserError
from ...search_space.inputs import Inputs, named_tensors_in
from ...search_space.quantization import policy_of
from ..cost.flat import input_names, tensors_of
from ..cost.onnx_file import to_onnx

Model = nn.Module | Path
"""A module, or the path of an ONNX file with one graph and fixed shapes."""
Call = Callable[[], Sequence[Any]]
"""One inference, from inputs in memory to outputs in memory; gives the outputs (tensors or numpy arrays)."""


@dataclass(frozen=True)
class Availability:
    """True, or false with one sentence that says why not and what would help."""

    why_not: str = ""

    def __bool__(self) -> bool:
        return not self.why_not


class Runtime(Protocol):
    """A file of this folder."""

    def available(self) -> Availability:
        """Whether it can run here; quick, and it imports nothing heavy."""
        ...

    def version(self) -> str:
        """Version of the runtime that is installed."""
        ...

    def prepare(self, model: Model, inputs: Inputs, threads: int) -> Call:
        """Load (compile) the model for these inputs, to run on `threads` threads."""
        ...


def installed(package: str, runtime: str) -> Availability:
    """Whether a Python package is there."""
    if find_spec(package) is not None:
        return Availability()
    return Availability(f"runtime {runtime} is not installed here; `pip install {package}` adds it")


def version_of(package: str) -> str:
    """The installed version of a package."""
    try:
        return package_version(package)
    except PackageNotFoundError:
        return "unknown"


def onnx_bytes(model: Model, inputs: Inputs, standard: str = "", *, unsigned: bool = False) -> bytes:
    """The ONNX file of a model.

    standard: name of a runtime that knows the operators of the standard only. unsigned: weights of 8 bits are unsigned
    codes. Errors: the file cannot be read; a policy that needs others.
    """
    if isinstance(model, nn.Module):
        content = to_onnx(model.eval(), inputs, unsigned=unsigned)
        if standard and policy_of(model) and b"MatMulNBits" in content:
            raise UserError(
                f"runtime {standard} has no MatMulNBits, which weights of 4 bits or less beside activations of 16 "
                "need; give them activations of 8 bits (w4a8) or 8 bits (w8a16), or use onnxruntime"
            )
        return content
    try:
        return model.read_bytes()
    except OSError as error:
        raise UserError(f"the ONNX file {model} cannot be read: {error.strerror}") from None


def feed(model: Model, inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors for the inputs of a file: by the names of keywords and arguments, else in their order.

    names: of the file's inputs. Error: they do not fit.
    """
    tensors = [x.detach().cpu() for x in tensors_of(inputs)]
    if len(names) == len(tensors) and not isinstance(inputs, Mapping):
        return dict(zip(names, tensors, strict=True))
    given = input_names(model, inputs) if isinstance(model, nn.Module) else [n for n, _ in named_tensors_in(inputs)]
    named = dict(zip(given, tensors, strict=True))
    if missing := [name for name in names if name not in named]:
        raise UserError(f"the file takes {', '.join(names)}; the example has no {', '.join(missing)}")
    return {name: named[name] for name in names}
