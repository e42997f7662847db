"""What the objectives ask of a net: quality with inherited weights, cost, latency. Each is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import torch

from ..hw_profiles import Cost, Device, Measurement, Protocol, measure_all, trace_cost
from ..predictors.latency import Learned
from ..search_space.architecture import Architecture
from ..search_space.inputs import Inputs
from ..search_space.quantization import policy_of
from ..supernet.evaluate import evaluate_subnet
from ..supernet.quantize.packed import packed_bytes
from ..supernet.store import Supernet
from ..tasks import Task
from ..values import Estimate


@dataclass
class Candidates:
    """Subnets of `supernet` on `device` at batch size `batch`; quality on the task's validation split.

    learned: predicts latencies in the place of the device's model.
    """

    supernet: Supernet
    task: Task
    device: Device
    batch: int = 1
    learned: Learned | None = None
    _costs: dict[Architecture, Cost] = field(default_factory=dict, repr=False)
    _packed: dict[Architecture, int | None] = field(default_factory=dict, repr=False)
    _latencies: dict[Architecture, Estimate] = field(default_factory=dict, init=False, repr=False)  # of this device

    @cached_property
    def example(self) -> Inputs:
        """Inputs of the wanted batch size."""
        example: Inputs = self.task.example_of(self.batch)
        return example

    def cost(self, architecture: Architecture) -> Cost:
        if architecture not in self._costs:
            skeleton = self.supernet.space.skeleton(architecture)
            self._packed[architecture] = packed_bytes(skeleton) if policy_of(skeleton) else None
            self._costs[architecture] = trace_cost(skeleton, self.example, self.device.precision)
        return self._costs[architecture]

    def weight_bytes(self, architecture: Architecture) -> float:
        """Of the weights at the device's precision; of a quantized net, of its `model.safetensors`."""
        cost = self.cost(architecture)
        packed = self._packed[architecture]
        return cost.weight_bytes if packed is None else packed

    def latency(self, architecture: Architecture) -> Estimate:
        if architecture not in self._latencies:
            predicted, model = self.device.latency(self.cost(architecture)), self.device.model
            if self.learned is not None:
                predicted = self.learned.latency(architecture, predicted, model.pace if model else 1.0)
            self._latencies[architecture] = predicted
        return self._latencies[architecture]

    def p95(self, architecture: Architecture) -> Estimate:
        """The 95th percentile of calls."""
        return self.device.p95(self.cost(architecture), time=self.latency(architecture))

    def energy(self, architecture: Architecture) -> Estimate:
        return self.device.energy(self.cost(architecture), time=self.latency(architecture))

    def measure(self, architectures: Sequence[Architecture], seconds: float) -> list[Measurement]:
        """Time nets on this machine in turns, as the device runs them; `seconds` at most for each."""
        pairs = [(self.supernet.extract(a, self.task).cpu(), self.example) for a in architectures]
        runtime, threads = self.device.local_runtime, self.device.threads
        return measure_all(pairs, protocol=Protocol(seconds=seconds), runtime=runtime, threads=threads)

    def quality(self, architecture: Architecture) -> float:
        """The task's metric on the validation split, with inherited weights."""
        return evaluate_subnet(self.supernet, self.task, architecture)

    @cached_property
    def quality_key(self) -> str:
        """Says what `quality` is of: the task's data and metric, and these very weights and steps."""
        digest = sha256()
        tensors = self.supernet.store.state_dict() | dict(self.supernet.steps.items())
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return f"{self.task.metric.name} on {self.task.name} {self.task.digest}, weights {digest.hexdigest()[:16]}"
