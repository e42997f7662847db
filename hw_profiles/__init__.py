"""Devices: what a net costs, and how long a device takes for it."""

from ..lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
