"""What must be in memory at once, and what a decoder would keep: the bookkeeping of a trace.

Tensors are known by a key of the caller's choice: tensors of one storage have one key.
"""

from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import NamedTuple

from .operators import OperatorCost


class Liveness:
    """When each activation is born and read last, in kernels."""

    def __init__(self) -> None:
        self._size: dict[Hashable, float] = {}
        self._born: dict[Hashable, int] = {}
        self._last: dict[Hashable, int] = {}

    def touch(self, key: Hashable, size: float, now: int) -> None:
        """Kernel `now` reads or writes an activation of `size` bytes."""
        self._size.setdefault(key, size)
        self._born.setdefault(key, now)
        self._last[key] = now

    def __contains__(self, key: Hashable) -> bool:
        return key in self._born

    def peak(self) -> float:
        """Bytes of the largest set alive at once."""
        change = [0.0] * (max(self._last.values(), default=0) + 2)
        for key, size in self._size.items():
            change[self._born[key]] += size
            change[self._last[key] + 1] -= size
        return max(accumulate(change))


class Piece(NamedTuple):
    """An operand: its storage, where in it the operand begins, and the bytes that lie there (expanded ones once)."""

    key: Hashable
    offset: Hashable
    bytes: float
    weight: bool = False


class _Scores(NamedTuple):
    keys: Piece
    normalized: bool
    kernels: tuple[int, ...]


class KeyValues:
    """Finds the keys and values of every attention, in one operator or as softmax(q k^T) v, and adds up their bytes.

    Repeated heads (grouped queries) count once: a copy of an expanded tensor is followed to its source. Keys that two
    layers share count once, learned keys (prototypes) not at all.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, float] = {}
        self._source: dict[Hashable, Piece] = {}
        self._scores: dict[Hashable, _Scores] = {}
        self._chains: list[tuple[int, ...]] = []

    @property
    def bytes(self) -> float:
        return sum(self._kept.values())

    def see(self, now: int, op: OperatorCost, inputs: Sequence[Piece], output: Piece) -> None:
        """Kernel `now`, in order of execution. `inputs`: of an attention: query, key, value."""
        if op.kind == "attention" and len(inputs) >= 3:
            self._keep(inputs[1:3])
        elif op.kind == "matmul" and len(inputs) >= 2:
            self._product(now, inputs[-2], inputs[-1], output)
        elif op.kind in ("elementwise", "normalization", "other", "gather"):
            self._pass_on(now, op.name, inputs, output)

    def ordered(self, operators: Sequence[OperatorCost]) -> tuple[OperatorCost, ...]:
        """The kernels with those of one attention side by side, as an order of execution may put them: exporters
        write the values' projection between the softmax and the product with it."""
        moved = {kernel for chain in self._chains for kernel in chain[:-1]}
        before = {chain[-1]: chain for chain in self._chains}
        order = [k for at in range(len(operators)) if at not in moved for k in before.get(at, (at,))]
        return tuple(operators[k] for k in order)

    def _product(self, now: int, left: Piece, right: Piece, output: Piece) -> None:
        scores = self._scores.get(left.key)
        if scores is not None and scores.normalized:
            self._keep((scores.keys, right))
            self._chains.append((*scores.kernels, now))
            del self._scores[left.key]
        elif not left.weight and not right.weight:
            self._scores[output.key] = _Scores(right, False, (now,))

    def _pass_on(self, now: int, name: str, inputs: Sequence[Piece], output: Piece) -> None:
        """Scores stay scores when they are scaled, masked and normalised; a copy stands for what it copies."""
        for piece in inputs:
            if piece.key in self._scores:
                keys, normalized, kernels = self._scores[piece.key]
                normalized = normalized or "softmax" in name.lower()
                self._scores[output.key] = _Scores(keys, normalized, (*kernels, now))
                return
        full = [piece for piece in inputs if piece.bytes >= output.bytes]
        if len(full) == 1 and full[0].key in self._source:  # a scaled copy
            self._source[output.key] = self._source[full[0].key]
        elif not full and inputs and inputs[0].bytes:
            self._source[output.key] = inputs[0]

    def _keep(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            origin = self._source.get(piece.key, piece)
            if not origin.weight:
                self._kept[origin.key, origin.offset] = min(origin.bytes, piece.bytes)
