"""A model of the transformers library without values: parameters on the meta device, constants real."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from ...errors import UserError
from .installed import transformers


def prototype(architecture: str, config: Mapping[str, Any], generation: Mapping[str, Any]) -> nn.Module:
    """The model of a class and a config, as `config.to_dict()` gives it. Error: the library has no such class."""
    library = transformers()
    model_class: Any = getattr(library, architecture, None)
    is_model = isinstance(model_class, type) and issubclass(model_class, library.PreTrainedModel)
    if not is_model:
        raise UserError(
            f"transformers {library.__version__} has no model class {architecture!r}; install a version that has"
        )
    made = library.AutoConfig.for_model(**config)
    with parameters_on_meta():
        model: nn.Module = model_class._from_config(made)
    if generation:
        model.generation_config = library.GenerationConfig.from_dict(dict(generation))
    return model.eval()


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Parameters that modules register meanwhile have no values; buffers are built as usual."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    with torch.device("cpu"), patch.object(nn.Module, "register_parameter", on_meta):
        yield
