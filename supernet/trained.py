"""Which of the shared weights a training moves, and what it is known by."""

import json
from hashlib import sha256

import torch
from torch import nn

from ..tasks import Task
from .recipe import Recipe
from .store import Supernet


def trained_parameters(supernet: Supernet, which: str) -> dict[str, nn.Parameter]:
    """By name: all of them, or without those of embeddings (`Recipe.trains`), and of heads that share theirs.

    The others take no gradient meanwhile.
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


def fingerprint(supernet: Supernet, task: Task, recipe: Recipe) -> str:
    """Identity of a training: recipe, names and shapes of the weights, genes, task, and what it needs of its start."""
    genes = {n: g.options for n, g in supernet.space.genes.items()}
    own = [recipe.identity(), genes, supernet.layouts, task.digest, *filter(None, [digest_of_start(supernet, recipe)])]
    text = json.dumps(own, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def digest_of_start(supernet: Supernet, recipe: Recipe) -> str:
    """Of the weights, where a training that goes on needs them as they were: it learns from them, or leaves some.

    Of other trainings a checkpoint holds all, and this is empty.
    """
    if recipe.teacher == "largest" and recipe.trains == "all":
        return ""
    content = sha256()
    for name, tensor in sorted(supernet.store.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
