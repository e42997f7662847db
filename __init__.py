"""Neural architecture search and auto-scaling for transformers: one supernet, the best subnetwork for your device.

import nas
space = nas.SearchSpace(function)         # a function from a trial to an ordinary torch.nn.Module
supernet = nas.Supernet(space)            # one tensor for every parameter name, at its largest shape
nas.train(supernet, nas.load_task("digits"))
study = nas.search(space, {"accuracy": nas.maximize(f), "latency_ms": nas.minimize(g)})
"""

from . import threads as _threads  # noqa: F401 (first: it is read when torch is imported)
from .lazy import attach

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach(__name__)
