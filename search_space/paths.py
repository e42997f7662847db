"""Names of genes and modules as paths: `layers.3.ffn` is ("layers", 3, "ffn")."""

import re

Path = tuple[str | int, ...]
_NUMBER = re.compile(r"\d{1,18}")


def path_of(name: str) -> Path:
    """The parts between dots; one of digits is a number."""
    return tuple(int(part) if part.isdecimal() and len(part) < 10 else part for part in name.split("."))


def group_of(path: Path) -> Path:
    """The part of a net that something belongs to: up to the last number before its own name, else up to that."""
    numbered = [i for i, part in enumerate(path[:-1]) if isinstance(part, int)]
    return path[: numbered[-1] + 1] if numbered else path[:-1]


def text_of(path: Path) -> str:
    return ".".join(map(str, path))


def numbers_in(name: str) -> list[int]:
    """All numbers, those within words too, as many write `ffn_3`."""
    return [int(number) for number in _NUMBER.findall(name)]


def kind_of(name: str, most: int = 0) -> str:
    """The name with its first `most` numbers (0: all) as stars, which names of alike layers share: `layers.*.ffn`."""
    return _NUMBER.sub("*", name, count=most)
