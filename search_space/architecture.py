"""One architecture: the genes that a space function asked for, and their values."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from ..errors import UserError

GeneValue = bool | int | float | str | None


class Architecture(Mapping[str, GeneValue]):
    """A frozen, hashable mapping from gene to value: cache key, file format and the unit of every search.

    Two choices that build the same net are the same architecture, because only genes that were asked for are kept.
    The order of the genes (the order of asking) is for reading; equality and hash do not see it.

    >>> space.architecture({"width": 32, "hidden": 64, "deep": False})  # shallow nets have no `hidden`
    Architecture(4ca2275eb3: {"deep":false,"width":32})
    """

    __slots__ = ("_genes", "_key")

    def __init__(self, genes: Mapping[str, GeneValue]) -> None:
        self._genes = dict(genes)
        self._key = json.dumps(self._genes, sort_keys=True, separators=(",", ":"))

    def __getitem__(self, name: str) -> GeneValue:
        return self._genes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._genes

    def __iter__(self) -> Iterator[str]:
        return iter(self._genes)

    def __len__(self) -> int:
        return len(self._genes)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Architecture):
            return self._key == other._key
        return isinstance(other, Mapping) and self._genes == other

    def __repr__(self) -> str:
        return f"Architecture({self.id}: {self._key})"

    def select(self, names: Sequence[str], missing: object) -> list[object]:
        """The values of these genes, in order; `missing` stands for a gene that the architecture does not have."""
        genes = self._genes
        return [genes.get(name, missing) for name in names]

    @property
    def id(self) -> str:
        """Ten hexadecimal digits of the SHA-256 of the sorted JSON: the same in every process."""
        return hashlib.sha256(self._key.encode()).hexdigest()[:10]

    def to_json(self) -> str:
        return json.dumps(self._genes, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Read what `to_json` wrote: one object whose values are numbers, strings, booleans or null."""
        try:
            genes = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"not an architecture: {error}; expected a JSON object of gene: value") from None
        if not isinstance(genes, dict) or any(isinstance(v, (list, dict)) for v in genes.values()):
            raise UserError("not an architecture: expected a JSON object of gene: number, string or boolean")
        return cls(genes)


def mark(module: object, architecture: Architecture) -> None:
    """Note of which architecture a module is, for `architecture_of`."""
    vars(module)["architecture_of_space"] = architecture


def architecture_of(module: object) -> Architecture | None:
    """The architecture that an extracted module, or a copy of it, is of; None of any other."""
    result = vars(module).get("architecture_of_space")
    return result if isinstance(result, Architecture) else None
