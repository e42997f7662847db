"""Weights of 4 bits or less, or beside dynamic activations, as MatMulNBits reads them: in blocks of neighbours in a
row that share a scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .integers import Integers
from .onnx_edit import Editor

BLOCKS = (16, 32, 64, 128, 256)
"""Weights that share a scale in MatMulNBits."""


def block_of(values: Integers) -> int:
    """Weights of a block of MatMulNBits: the size with the fewest bytes that ends where groups end; 0: there is none.

    Of 8 bits and float activations it is 3 to 30 times as slow as a product of floats (ONNX Runtime 1.31).
    """
    if values.scheme.dynamic:  # of inputs the same blocks have scales
        return values.group
    width = values.matrix.shape[1]
    sizes = [b for b in BLOCKS if values.scale.ndim == 1 or values.group % b == 0] if values.bits == 4 else []
    return min(sizes, key=lambda b: -(-width // b) * (b / 2 + 4), default=0)


def packed(graph: Editor, values: Integers, block: int) -> list[str]:
    """Codes (rows, blocks, bytes of a block), scales and, where there are any, zeros of blocks, for MatMulNBits."""
    rows, width = values.matrix.shape
    blocks = -(-width // block)
    group = np.arange(blocks) * block // values.group
    padded = np.pad(values.matrix, ((0, 0), (0, blocks * block - width)))
    inputs = [
        graph.constant(_bytes(padded, values.bits).reshape(rows, blocks, -1)),
        graph.floats(values.by_group(values.scale)[:, group].reshape(-1)),
    ]
    if values.zero.any():
        zeros = values.by_group(values.zero)[:, group]
        even = np.pad(zeros, ((0, 0), (0, blocks % 2 if values.bits == 4 else 0)))
        inputs.append(graph.constant(_bytes(even, values.bits).reshape(-1)))
    return inputs


def _bytes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Unsigned codes; of 4 bits two neighbours of a row in one byte."""
    if bits == 8:
        return (codes.astype(np.int16) + 128).astype(np.uint8)
    shifted = (codes.astype(np.int16) + 8).astype(np.uint8)
    return (shifted[:, ::2] | shifted[:, 1::2] << 4).astype(np.uint8)
