"""The cost of a module: FLOPs, bytes, kernels, parameters and memory, by tracing its forward on the meta device.

Nothing is computed and nothing is allocated: a net of any size is traced in milliseconds, on any machine.
"""

from ...lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
