"""Training state on disk: tensors in safetensors, the rest in JSON. No pickle.

A checkpoint is the pair `step-000400.safetensors` and `step-000400.json`. The JSON is written last: a pair without it
was cut short and does not count.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import UserError
from ..files import write_atomic

KEPT = 2


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the state after `step` steps and drop all but the newest checkpoints."""
    stem = folder / f"step-{step:06d}"
    contiguous = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    write_atomic(stem.with_suffix(".safetensors"), save(contiguous))
    write_atomic(stem.with_suffix(".json"), json.dumps(state))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()  # the JSON first: what is left then does not count
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """The JSON files of whole checkpoints, oldest first."""
    return [p for p in sorted(folder.glob("step-*.json")) if p.with_suffix(".safetensors").exists()]


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of one checkpoint, given its JSON file. A damaged file is a UserError that names it."""
    try:
        return load_file(path.with_suffix(".safetensors")), json.loads(path.read_text())
    except Exception as error:
        raise UserError(
            f"checkpoint {path.stem} in {path.parent} cannot be read ({error}); delete it to train on"
        ) from None
