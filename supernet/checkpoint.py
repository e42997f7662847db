"""Training state on disk: tensors in safetensors, the rest in JSON. No pickle.

A checkpoint is the pair `step-000400.safetensors` and `step-000400.json`. The JSON is written last, with the SHA-256 of
the tensors' file and a checksum of itself: a pair without it was cut short and does not count.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor

from ..errors import UserError
from ..files import CHECKSUM, check_seal, check_sha256, read_tensors, sealed, sha256_of, write_atomic

KEPT = 2
TENSORS = "sha256"
"""In the JSON: of the tensors' file."""


class Checkpoint(NamedTuple):
    """What training goes on from. damaged: a sentence for each newer checkpoint that cannot be used."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    damaged: list[str]


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the state after `step` steps and drop all but the newest checkpoints."""
    stem = folder / f"step-{step:06d}"
    contiguous = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    written = write_atomic(stem.with_suffix(".safetensors"), save(contiguous))
    write_atomic(stem.with_suffix(".json"), json.dumps(sealed({**state, TENSORS: sha256_of(written)})))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()  # the JSON first: what is left then does not count
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The JSON files of whole checkpoints, oldest first."""
    return [p for p in sorted(folder.glob("step-*.json")) if p.with_suffix(".safetensors").exists()]


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is not damaged; None: there is none at all. Error: all are damaged."""
    damaged: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            return Checkpoint(*load_checkpoint(path), damaged)
        except UserError as error:
            damaged.append(str(error))
    if damaged:
        raise UserError(
            f"no checkpoint in {folder} can be used: {damaged[0]}; delete the folder to train from the start"
        )
    return None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of one checkpoint, given its JSON file. A damaged file is a UserError that names it."""
    try:
        state = json.loads(path.read_text())
        if not isinstance(state, dict):
            raise UserError(f"{path} holds no mapping")
        check_seal(state, path)
        check_sha256(path.with_suffix(".safetensors"), state[TENSORS])
        tensors = read_tensors(path.with_suffix(".safetensors"))
        return tensors, {name: value for name, value in state.items() if name not in (TENSORS, CHECKSUM)}
    except (OSError, ValueError, KeyError, RecursionError) as error:  # a UserError is a ValueError
        raise UserError(f"checkpoint {path.stem} in {path.parent} cannot be read ({error})") from None
