"""What a bundle says of itself: `manifest.json`, read by the target's script and by `ingest`."""

import json
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zipfile import BadZipFile, ZipFile

from pydantic import Field, ValidationError, model_validator

from ...errors import UserError, quoted
from ...files import CHECKSUM, check_seal
from ..cost import Cost
from ..measuring.timing import Protocol
from ..points import Point
from ..schema import Frozen, Precision, first_error

MANIFEST = "manifest.json"
MOST_MANIFEST = 64 * 2**20
MOST_NET = 4 * 2**30
"""Bytes, unpacked: what a zip says of its files is looked at before they are read."""
UNREADABLE = (BadZipFile, RuntimeError, EOFError, ValueError, struct.error, zlib.error, lzma.LZMAError)
"""What `zipfile` raises for a file that is no zip, is damaged, encrypted or packed in a way that it does not know."""
Id = Annotated[str, Field(min_length=1, max_length=400)]


class PackedNet(Frozen):
    """One ONNX file, what it costs, and what a calibration's point will say of it."""

    id: Id
    family: Id
    file: Id
    sha256: Id
    shape: list[int]
    dtype: str
    top: int = 2
    """Token ids are below."""
    facts: dict[str, Any]
    cost: dict[str, Any]
    """`Cost.from_operators` reads it back."""

    @model_validator(mode="after")
    def _costs_something(self) -> Self:
        """The facts and the cost are those of a calibration's point."""
        try:
            Point.of(self.traced(), **self.facts, latency_ms=1.0, source="results", trust="measured")
        except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"what it says of net {self.id} is not as `nas profile pack` writes it: {error}") from None
        return self

    def traced(self) -> Cost:
        return Cost.from_operators(**self.cost)


class PackedBatch(Frozen):
    """Ids of nets that are timed in turns."""

    nets: list[Id] = Field(min_length=1)
    again: bool = False


class Manifest(Frozen):
    """How the nets of a bundle are to be run."""

    format: Literal[1] = 1
    precision: Precision
    threads: int = Field(ge=1, le=4096)
    protocol: Protocol
    reference: Id
    batches: list[PackedBatch]
    nets: list[PackedNet] = Field(min_length=1)

    @model_validator(mode="after")
    def _refers_to_the_middle(self) -> Self:
        """What the batches' drift is measured by follows from the nets: nobody can choose it."""
        if self.reference != (middle := middle_of(self.nets).id):
            raise ValueError(f"the reference is {quoted(self.reference)}, but the net of the middle cost is {middle}")
        return self


def middle_of(nets: Sequence[PackedNet]) -> PackedNet:
    """The net of the middle cost: it feels what the others feel, be it a slower clock or a busy memory bus."""
    return sorted(nets, key=lambda net: (net.traced().flops, net.id))[len(nets) // 2]


def cost_fields(cost: Cost) -> dict[str, Any]:
    """The arguments of `Cost.from_operators` that give the cost again."""
    return {
        "rows": [asdict(op) for op in cost.operators],
        "params": cost.params,
        "precision": cost.precision,
        "peak_activation_bytes": cost.peak_activation_bytes,
    }


def read_bundle(path: Path) -> tuple[Manifest, str]:
    """The manifest of a bundle and the bundle's id.

    Errors: no bundle; the manifest, or a file in it, is not the one that was packed.
    """
    try:
        with ZipFile(path) as bundle:
            _check_size(bundle, MANIFEST, MOST_MANIFEST)
            raw = bundle.read(MANIFEST)
            manifest = _manifest(raw, path)
            for net in manifest.nets:
                _check_file(path, bundle, net)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"the bundle {path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise UserError(f"{path} is not a bundle of `nas profile pack`: {MANIFEST}: {first_error(error)}") from None
    except KeyError as error:
        raise UserError(f"{path} is not a bundle of `nas profile pack`: {error.args[0]}") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a bundle of `nas profile pack`: {error or type(error).__name__}") from None
    return manifest, sha256(raw).hexdigest()


def _manifest(raw: bytes, path: Path) -> Manifest:
    content = json.loads(raw)
    if not isinstance(content, dict):
        raise ValueError(f"{MANIFEST} holds no mapping")
    check_seal(content, f"{path}: {MANIFEST}")
    return Manifest.model_validate({name: value for name, value in content.items() if name != CHECKSUM})


def _check_file(path: Path, bundle: ZipFile, net: PackedNet) -> None:
    _check_size(bundle, net.file, MOST_NET)
    with bundle.open(net.file) as content:
        if file_digest(content, "sha256").hexdigest() != net.sha256:  # type: ignore[arg-type]
            raise UserError(f"{path} is damaged: {net.file} is not the file that was packed; pack it again")


def _check_size(bundle: ZipFile, name: str, most: int) -> None:
    size = bundle.getinfo(name).file_size
    if size > most:
        raise UserError(
            f"{bundle.filename} is not a bundle of `nas profile pack`: {name} would be {size / 2**30:.1f} GiB"
        )
