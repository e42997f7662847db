"""Methods of regression, one a file. A file that defines `METHOD` here is registered, and tested by the contract."""

import importlib
import pkgutil
from functools import cache

from ...errors import unknown
from ..method import Method


@cache
def _registry() -> dict[str, Method]:
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    return {m.METHOD.name: m.METHOD for m in modules if "METHOD" in vars(m)}


def method_names() -> list[str]:
    """Names of the methods, sorted."""
    return sorted(_registry())


def load_method(method: str | Method) -> Method:
    """The method of that name with its own settings, or the object itself. Error: the valid names, nearest first."""
    if not isinstance(method, str):
        return method
    if method not in _registry():
        raise unknown("predictor", method, _registry())
    return _registry()[method]
