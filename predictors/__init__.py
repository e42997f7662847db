"""Predictors: architectures to a number (latency, accuracy, energy) with its uncertainty, learnt from examples."""

from .base import FittedPredictor, Predictor
from .choose import Choice, choose
from .interval import Interval, conformal
from .method import Method, Regressor, Scale
from .methods import load_method, method_names
from .table import Extra, Features, Table, cost_columns, path_columns

__all__ = [
    "Choice",
    "Extra",
    "Features",
    "FittedPredictor",
    "Interval",
    "Method",
    "Predictor",
    "Regressor",
    "Scale",
    "Table",
    "choose",
    "conformal",
    "cost_columns",
    "load_method",
    "method_names",
    "path_columns",
]
