"""Which of the shared weights a training moves."""

from torch import nn

from .store import Supernet


def trained_parameters(supernet: Supernet, which: str) -> dict[str, nn.Parameter]:
    """By name: all of them, or without those of embeddings (`Recipe.trains`), and of heads that share theirs.

    The others take no gradient until `untied`.
    """
    frozen = frozen_names(supernet) if which == "layers" else set()
    for name, parameter in supernet.store.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return {name: p for name, p in supernet.store.named_parameters() if name not in frozen}


def frozen_names(supernet: Supernet) -> set[str]:
    """Names of the parameters of embeddings."""
    net = supernet.space.skeleton(supernet.space.largest)
    tables = {id(p) for module in net.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return {name for name, p in net.named_parameters() if id(p) in tables}
