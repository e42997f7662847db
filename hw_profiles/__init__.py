"""Devices: what a net costs, and how long a device takes for it."""

from .catalog import device_names, load_device
from .cost import Cost, OperatorCost, fused, trace_cost
from .cost.graph import graph_of
from .device import Device
from .measuring.measure import Measurement, Protocol, calibrate, measure, measure_all
from .models.latency import LatencyModel

__all__ = [
    "Cost",
    "Device",
    "LatencyModel",
    "Measurement",
    "OperatorCost",
    "Protocol",
    "calibrate",
    "device_names",
    "fused",
    "graph_of",
    "load_device",
    "measure",
    "measure_all",
    "trace_cost",
]
