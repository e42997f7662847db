"""The idx format of MNIST and its kin (LeCun, Cortes and Burges, 1998): two zero bytes, the type (8: unsigned byte),
the number of dimensions, the sizes as big-endian 32-bit integers, then the values."""

import gzip
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError

_UNSIGNED_BYTE = 8


def parse_idx(data: bytes, name: str) -> Tensor:
    """The uint8 tensor in `data`; `name` is for the error message."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise UserError(f"{name} is not an idx file of unsigned bytes: it starts with {data[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise UserError(f"{name} ends within its header of {start} bytes; get the file again")
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    if len(data) - start != prod(shape):
        raise UserError(
            f"{name} holds {len(data) - start} values where its header promises {prod(shape)} "
            f"({' x '.join(map(str, shape))}); get the file again"
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[start:].view(shape)


def unpack(data: bytes, name: str) -> bytes:
    """`data` without its gzip layer, where it has one (seen by its first two bytes, not by a file's ending)."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{name} is a broken gzip file ({error}); get the file again") from error


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in an idx file, gzipped or plain."""
    return parse_idx(unpack(path.read_bytes(), str(path)), str(path))
