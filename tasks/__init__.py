"""What is to be learnt: data in fixed splits, a loss and a metric. One task a file."""

from ..lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
