"""Packages that extend this one: entry points of the group `nas.plugins`, which register what they bring."""

import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points

GROUP = "nas.plugins"


@cache
def _waiting() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def load_plugins() -> None:
    """Load what is installed, once: a module that registers when it is imported, or a function that is called.

    One that fails is left out, with a warning that names it.
    """
    waiting, _waiting()[:] = _waiting()[:], []  # one that looks up names while it is loaded comes here again
    for entry in waiting:
        try:
            loaded = entry.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            warnings.warn(
                f"plug-in {entry.name!r} ({entry.value}) fails and is left out: {type(error).__name__}: {error}",
                stacklevel=2,
            )
