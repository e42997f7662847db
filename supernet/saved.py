"""A supernet as one safetensors file: weights, learned steps, and in its metadata what they belong to."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import UserError
from ..files import check_finite, check_seal, read_tensors, sealed
from ..search_space.quantization import policy_genes
from .tree import Orders

if TYPE_CHECKING:
    from .store import Supernet

NAME = "supernet.safetensors"
STEPS, DRAWN, ORDER = "steps:", "drawn:", "order:"
"""Begin the names of learned steps (`quantize.learned`), of what random buffers were before any training, and of where
sorting has put the entries of a dimension (`order:0:NAME`)."""
FACTS = "supernet"
"""The one field of the metadata: genes and layouts of the space (without quantization policies, whose nets share all
weights), whose the running statistics are, the SHA-256 of the tensors, and the checksum of these facts."""


def packed(supernet: "Supernet") -> bytes:
    """The content of the file. Error: numbers that are not finite."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in supernet.store.state_dict().items()}
    tensors |= {f"{STEPS}{name}": step.detach().cpu().contiguous() for name, step in supernet.steps.items()}
    tensors |= {f"{DRAWN}{name}": b.initial.cpu().contiguous() for name, b in supernet.shared.items() if b.random}
    for name, dims in supernet.store.orders.items():
        tensors |= {f"{ORDER}{dim}:{name}": places.cpu().contiguous() for dim, places in dims.items()}
    check_finite(tensors, "the supernet", infinite=dict(supernet.store.named_buffers()))
    return sealed_file(tensors, FACTS, {**_space(supernet), "statistics_of": supernet.store.statistics_of})


def sealed_file(tensors: dict[str, Tensor], field: str, facts: Mapping[str, Any]) -> bytes:
    """A safetensors file whose metadata has one field: facts, with the checksums of the tensors and of themselves."""
    return save(tensors, {field: json.dumps(sealed({**facts, "tensors": sha256_of_tensors(tensors)}))})


def restore(supernet: "Supernet", path: Path) -> None:
    """Fill a new supernet with what `packed` made.

    Errors: a file that cannot be read, is damaged, of another origin, or of another space.
    """
    facts = read_facts(path, FACTS, "Supernet.save")
    tensors = checked_tensors(path, facts, dict(supernet.store.named_buffers()))
    space = _space(supernet)
    if {name: facts[name] for name in space} != space:
        raise UserError(f"{path} is of another space: {_difference(facts, space)}; pass the space that it was saved of")
    steps, drawn, orders = (_taken(tensors, prefix) for prefix in (STEPS, DRAWN, ORDER))
    own = {name: t.clone() for name, t in tensors.items()}  # not the file's memory, where numbers lie at any address
    supernet.store.load_state_dict(own, assign=True)
    supernet.store.statistics_of = facts["statistics_of"]
    supernet.store.orders = _by_name(orders)
    supernet.steps = nn.ParameterDict({name: nn.Parameter(step) for name, step in steps.items()})
    supernet.shared |= {name: replace(supernet.shared[name], initial=value) for name, value in drawn.items()}


def _by_name(orders: Mapping[str, Tensor]) -> Orders:
    results: Orders = {}
    for key, places in orders.items():
        dim, _, name = key.partition(":")
        results.setdefault(name, {})[int(dim)] = places.clone()
    return results


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without that, taken out of `tensors`."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _space(supernet: "Supernet") -> dict[str, Any]:
    """What a space must share with the one that weights were trained in; the same before and after JSON."""
    genes, policies = supernet.space.genes, set(policy_genes(supernet.space.genes))
    layouts = sha256(json.dumps(supernet.layouts, sort_keys=True).encode()).hexdigest()
    return {"genes": {n: list(g.options) for n, g in genes.items() if n not in policies}, "layouts": layouts}


def _difference(facts: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    there, here = facts["genes"], space["genes"]
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            options = [f"has the options {each[name]}" if name in each else "does not exist" for each in (there, here)]
            return f"gene {name!r} {options[0]} there and {options[1]} here"
    return "its tensors have other names, shapes or layouts"


def read_facts(path: Path, field: str, writer: str) -> dict[str, Any]:
    """What `sealed_file` was given. writer: what users call for such a file. Errors: another file, or a damaged one."""
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()[field])
            check_seal(facts, path)
            return facts
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file, or a damaged one: {error}; restore the file") from None
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError):
        raise UserError(f"{path} is not a file of `{writer}`, or a damaged one; restore the file") from None


def checked_tensors(path: Path, facts: Mapping[str, Any], infinite: Collection[str]) -> dict[str, Tensor]:
    """The tensors of the file. infinite: those that may hold infinite numbers. Error: others than the facts say."""
    tensors = read_tensors(path, infinite)
    if facts["tensors"] != sha256_of_tensors(tensors):
        raise UserError(f"{path} is damaged: its tensors are not those that were saved; restore the file")
    return tensors


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and bytes."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
