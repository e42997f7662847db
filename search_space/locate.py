"""From what a user writes (`--space vit-digits | my.yaml | my.py:function`) to a space that can be built again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import nn

from ..errors import UserError
from .adopted.space import AdoptedSpace
from .architecture import GeneValue
from .construction import construct, constructed_light
from .presets import check_space, load_preset, load_space_file
from .python_file import approve, check_approved, digest_of, keep_approvals, python_space
from .quantization import Quantization
from .space import SearchSpace, SpaceFunction
from .transformer import TransformerSpace
from .trial import RecordingTrial

Description = Mapping[str, Any]
"""JSON: enough to build the same space function in another process."""
OBJECT = "object"
"""The field of the description of a space that only the process has that made it."""


def describe_space(
    text: str | TransformerSpace | AdoptedSpace, input_shape: tuple[int, ...], classes: int, vocabulary: int = 0
) -> dict[str, Any]:
    """Description of the space that `text` names, for inputs of `input_shape` (without batch) and `classes` outputs.

    text: a preset, a YAML file of a TransformerSpace, or FILE.py:FUNCTION, which the user thereby trusts; or the
    TransformerSpace or AdoptedSpace itself.
    vocabulary: how many tokens are told apart, where inputs are tokens; 0: the space says it, if any.
    Errors: none of these.
    """
    if isinstance(text, str):
        check_space(text)
    fit = {"input_shape": list(input_shape), "classes": classes}
    fit |= {"vocabulary": vocabulary} if vocabulary else {}  # which descriptions of older versions have not
    if isinstance(text, TransformerSpace):
        return {"transformer": text.model_dump(mode="json"), **fit}
    if isinstance(text, AdoptedSpace):
        return {"adopted": text.model_dump(mode="json"), **fit}
    path, _, name = text.rpartition(":")
    if path.endswith(".py"):
        file, digest = Path(path).resolve(), digest_of(Path(path))
        approve(file, digest)  # kept with the run that it is of
        return {"python": str(file), "function": name, "sha256": digest, **fit}
    named = load_space_file(Path(text)) if text.endswith((".yaml", ".yml")) else load_preset(text)
    return describe_space(named, input_shape, classes, vocabulary)


def trust(description: Description) -> None:
    """Let the Python file that the description names, as it is now, be run from now on; others need no trust."""
    fields = _checked(description)
    if fields.python is not None:
        approve(_python_path(fields.python), fields.sha256)
        keep_approvals()


def space_from(description: Description) -> SearchSpace:
    """The space of a description; with "quantize" (fields of a `Quantization`), its quantized one.

    A Python space is run from the file it was described with, and only if that file has not changed since and is
    trusted. Errors: it is not; a description that is damaged.
    """
    described, policies = _described(description), policies_in(description)
    space = described if isinstance(described, SearchSpace) else SearchSpace(described)
    return space.quantized(**policies.fields) if policies else space


def with_policies(space: SearchSpace, policies: Quantization | None) -> SearchSpace:
    """The space whose nets have these policies, if any. Error: they have some already."""
    return space.quantized(**policies.fields) if policies else space


def net_from(description: Description, genes: Mapping[str, GeneValue], device: str = "cpu") -> nn.Module:
    """A new module of that space, with its policy: the function is run once, which is quicker than to know all genes.

    device: "meta": parameters may have no values, and constants have theirs.
    Errors: those of `space_from`; genes that are not those the function asks for.
    """
    described, policy = _described(description), policies_in(description)
    trial = RecordingTrial(lambda gene: genes.get(gene.name))
    function = described.function if isinstance(described, SearchSpace) else described
    with torch.random.fork_rng(devices=[]):
        net = construct(function, trial, "cpu") if device == "cpu" else constructed_light(function, trial)
    if policy:
        policy.ask(net, trial)
    if odd := genes.keys() - trial.values.keys():
        raise UserError(f"the space has no gene {', '.join(sorted(odd)[:4])} in this net; it was made of another space")
    return net


class _Fields(BaseModel):
    """What a description holds: options of a transformer or of a trained model, a function, or a hash of genes."""

    input_shape: tuple[Annotated[int, Field(ge=1, le=2**31)], ...]
    classes: Annotated[int, Field(ge=0, le=2**31)]
    vocabulary: Annotated[int, Field(ge=0, le=2**31)] = 0
    transformer: dict[str, Any] | None = None
    adopted: dict[str, Any] | None = None
    python: str | None = None
    object: str | None = None
    function: str = ""
    sha256: str = ""
    quantize: dict[str, Any] | None = None

    @property
    def interface(self) -> dict[str, Any]:
        """Inputs and outputs that the space is described for."""
        tokens = {"vocabulary": self.vocabulary} if self.vocabulary else {}
        return {"input_shape": self.input_shape, "classes": self.classes, **tokens}


def _checked(description: Description) -> _Fields:
    try:
        fields = _Fields.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UserError(f"the description of the space is damaged: {where}: {first['msg']}; restore the file") from None
    if sum(each is not None for each in (fields.transformer, fields.adopted, fields.python, fields.object)) != 1:
        raise UserError("the description of the space is damaged: it needs 'transformer' or 'python'; restore the file")
    return fields


def _described(description: Description) -> SearchSpace | SpaceFunction:
    fields = _checked(description)
    if fields.transformer is not None:
        return TransformerSpace(**fields.transformer).bind(**fields.interface)
    if fields.adopted is not None:
        return AdoptedSpace(**fields.adopted)
    if fields.object is not None:
        raise UserError("the space is a Python object, which files do not hold; pass it as well")
    path = _python_path(fields.python or "")
    if digest_of(path) != fields.sha256:
        raise UserError(
            f"{path} has changed since this was made; pass the space function yourself, or restore the file"
        )
    check_approved(path, fields.sha256)
    return python_space(path, fields.function, fields.interface)


def _python_path(text: str) -> Path:
    """Error: a relative path, which would name another file in every working directory."""
    if not Path(text).is_absolute():
        raise UserError(
            f"the space names the Python file {text!r}, which is not an absolute path; pass the space yourself"
        )
    return Path(text)


def policies_in(description: Description) -> Quantization | None:
    """What the policies of its nets choose from, if they have any. Error: a description that is damaged."""
    fields = _checked(description).quantize
    if not fields:
        return None
    try:
        return Quantization.read(**fields)
    except (TypeError, AttributeError) as error:
        raise UserError(f"the description of the space is damaged: quantize: {error}; restore the file") from None
