"""What a bundle says of itself: `manifest.json`, read by the target's script and by `ingest`."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

from pydantic import Field, ValidationError

from ...errors import UserError
from ..cost import Cost
from ..measuring.timing import Protocol
from ..schema import Frozen, Precision

MANIFEST = "manifest.json"


class PackedNet(Frozen):
    """One ONNX file, what it costs, and what a calibration's point will say of it."""

    id: str
    family: str
    file: str
    sha256: str
    shape: list[int]
    dtype: str
    top: int = 2
    """Token ids are below."""
    facts: dict[str, Any]
    cost: dict[str, Any]
    """`Cost.from_operators` reads it back."""

    def traced(self) -> Cost:
        return Cost.from_operators(**self.cost)


class PackedBatch(Frozen):
    """Ids of nets that are timed in turns."""

    nets: list[str] = Field(min_length=1)
    again: bool = False


class Manifest(Frozen):
    """How the nets of a bundle are to be run."""

    format: Literal[1] = 1
    precision: Precision
    threads: int
    protocol: Protocol
    reference: str
    batches: list[PackedBatch]
    nets: list[PackedNet]


def cost_fields(cost: Cost) -> dict[str, Any]:
    """The arguments of `Cost.from_operators` that give the cost again."""
    return {
        "rows": [asdict(op) for op in cost.operators],
        "params": cost.params,
        "precision": cost.precision,
        "peak_activation_bytes": cost.peak_activation_bytes,
    }


def read_bundle(path: Path) -> tuple[Manifest, str]:
    """The manifest of a bundle and the bundle's id. Errors: no bundle; a file in it is not the one that was packed."""
    try:
        with ZipFile(path) as bundle:
            raw = bundle.read(MANIFEST)
            manifest = Manifest.model_validate_json(raw)
            for net in manifest.nets:
                if sha256(bundle.read(net.file)).hexdigest() != net.sha256:
                    raise UserError(f"{path} is damaged: {net.file} is not the file that was packed; pack it again")
    except OSError as error:
        raise UserError(f"the bundle {path} cannot be read: {error.strerror or error}") from None
    except (BadZipFile, KeyError, ValidationError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is no bundle of `nas profile pack`: {str(error).splitlines()[0]}") from None
    return manifest, sha256(raw).hexdigest()
