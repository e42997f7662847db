"""What the objectives ask of a net: quality with inherited weights, cost, latency. Each is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import torch

from ..hw_profiles import Cost, Device, Measurement, Protocol, measure_all, trace_cost
from ..hw_profiles.measuring.serving import measure_serving
from ..hw_profiles.serving import Request, ServingCost, trace_serving
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

    learned: predicts latencies in the place of the device's model. request: what a net is asked, where that is to
    generate text: cost, latency, energy and memory are then those of a whole request. None: it is called once.
    """

    supernet: Supernet
    task: Task
    device: Device
    batch: int = 1
    learned: Learned | None = None
    request: Request | None = None
    _served: dict[Architecture, ServingCost] = field(default_factory=dict, repr=False)
    _costs: dict[Architecture, Cost] = field(default_factory=dict, repr=False)
    _packed: dict[Architecture, int | None] = field(default_factory=dict, repr=False)
    _latencies: dict[Architecture, Estimate] = field(default_factory=dict, init=False, repr=False)  # of this device

    @cached_property
    def example(self) -> Inputs:
        """Inputs of the wanted batch size."""
        example: Inputs = self.task.example_of(self.batch)
        return example

    def cost(self, architecture: Architecture) -> Cost:
        if self.request is not None:
            skeleton = self.supernet.space.skeleton(architecture)
            self._packed.setdefault(architecture, packed_bytes(skeleton) if policy_of(skeleton) else None)
            return self.served(architecture).whole
        if architecture not in self._costs:
            skeleton = self.supernet.space.skeleton(architecture)
            self._packed[architecture] = packed_bytes(skeleton) if policy_of(skeleton) else None
            self._costs[architecture] = trace_cost(skeleton, self.example, self.device.precision)
        return self._costs[architecture]

    def served(self, architecture: Architecture) -> ServingCost:
        """The cost of a request and of its parts. Error: the net keeps no key/value cache."""
        if architecture not in self._served:
            skeleton, request = self.supernet.space.skeleton(architecture), self.request or Request(batch=self.batch)
            self._served[architecture] = trace_serving(skeleton, request, self.device.precision)
        return self._served[architecture]

    @property
    def call_text(self) -> str:
        """What a latency is of."""
        return f"batch {self.batch}" if self.request is None else self.request.text

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
        """Time nets on this machine in turns, as the device runs them; `seconds` at most for each. Requests are timed
        with PyTorch."""
        if self.request is not None:
            nets = [self.supernet.extract(a, self.task).cpu() for a in architectures]
            protocol = Protocol(seconds=seconds)
            return [*measure_serving(nets, self.request, protocol=protocol, threads=self.device.threads)]
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
