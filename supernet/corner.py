"""Corners under the name of the room that uses them most; they are derived in `search_space.corner`."""

from ..search_space.corner import Corner, corner, cut, fits

__all__ = ["Corner", "corner", "cut", "fits"]
