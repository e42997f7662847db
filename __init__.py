"""Neural architecture search and auto-scaling for transformers: one supernet, the best subnetwork for your device.

import nas
space = nas.SearchSpace(function)         # a function from a trial to an ordinary torch.nn.Module
supernet = nas.Supernet(space)            # one tensor for every parameter name, at its largest shape
nas.train(supernet, nas.load_task("digits"))
study = nas.search(space, {"accuracy": nas.maximize(f), "latency_ms": nas.minimize(g)})
"""

from . import threads as _threads  # noqa: F401 (first: it is read when torch is imported)
from .errors import Infeasible, UncalibratedWarning, UserError
from .hw_profiles import Cost, Device, LatencyModel, device_names, graph_of, load_device, trace_cost
from .hw_profiles.measuring.profile import profile
from .search.algorithms import algorithms
from .search.objectives import Constraint, maximize, minimize
from .search.pareto import hypervolume
from .search.run import search
from .search.sampler import Sampler
from .search.study import Study
from .search_space.architecture import Architecture
from .search_space.axes import axes_of
from .search_space.gene_space import GeneSpace
from .search_space.layout import Linear
from .search_space.presets import load_preset, preset_names
from .search_space.space import SearchSpace
from .search_space.transformer import TransformerSpace
from .supernet.evaluate import evaluate, evaluate_subnet
from .supernet.export import export
from .supernet.health import check_health
from .supernet.load import load, with_kernels
from .supernet.quantize.post_training import quantize
from .supernet.quantize.settings import PostTraining
from .supernet.recipe import Recipe
from .supernet.single import train_alone
from .supernet.store import Supernet
from .supernet.train import train
from .tasks import Split, Task, load_task, task_names
from .values import Estimate, Limit, Metric

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Constraint",
    "Cost",
    "Device",
    "Estimate",
    "GeneSpace",
    "Infeasible",
    "LatencyModel",
    "Limit",
    "Linear",
    "Metric",
    "PostTraining",
    "Recipe",
    "Sampler",
    "SearchSpace",
    "Split",
    "Study",
    "Supernet",
    "Task",
    "TransformerSpace",
    "UncalibratedWarning",
    "UserError",
    "algorithms",
    "axes_of",
    "check_health",
    "device_names",
    "evaluate",
    "evaluate_subnet",
    "export",
    "graph_of",
    "hypervolume",
    "load",
    "load_device",
    "load_preset",
    "load_task",
    "maximize",
    "minimize",
    "preset_names",
    "profile",
    "quantize",
    "search",
    "task_names",
    "trace_cost",
    "train",
    "train_alone",
    "with_kernels",
]
