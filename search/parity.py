"""A quantized net beside itself: before its policy, as it was evaluated, and as the ONNX file that is shipped."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import write_atomic
from ..hw_profiles import Device
from ..hw_profiles.policies import unsigned_weights
from ..hw_profiles.runtimes.onnxruntime import exact_session
from ..supernet.evaluate import outputs_of
from ..supernet.quantize.post_training import SAMPLES
from ..supernet.quantize.quantized import Quantized
from ..supernet.shipped import calibration_inputs
from ..tasks import Task
from ..tasks.metrics import quality_text

NAME = "parity.json"


@dataclass(frozen=True)
class Parity:
    """The task's metric of the net in floats, of its twin and of `model.onnx`, on the same samples of one split.

    calibrated: training inputs that the scales come from. agreement: share of samples for which twin and file have the
    same largest output. It and `file`: None without an ONNX file.
    """

    metric: str
    split: str
    samples: int
    calibrated: int
    floats: float
    twin: float
    file: float | None = None
    agreement: float | None = None

    @property
    def text(self) -> str:
        found = f"in floats {quality_text(self.floats, self.metric)}, quantized {quality_text(self.twin, self.metric)}"
        if self.file is not None and self.agreement is not None:
            file = quality_text(self.file, self.metric)
            found += f", as model.onnx {file}, with the answer of the quantized net for {self.agreement:.2%}"
        fewer = f", all that there are of the {SAMPLES} asked for" if self.calibrated < SAMPLES else ""
        return f"{found} (the same {self.samples} of {self.split}); calibrated on {self.calibrated} inputs{fewer}"


def parity(
    floats: nn.Module, net: Quantized, task: Task, split: str, file: Path, target: Device | None = None
) -> Parity:
    """Compare them on a split of the task. floats: the net without its policy; file: for `target`, need not exist.

    The test split is looked at once, for the chosen net: this is the same look, at the same net in its other forms.
    """
    data = getattr(task, split)
    expected, targets = outputs_of(net.twin.eval(), data)
    without, _ = outputs_of(floats.eval(), data)
    about = task.metric_name, split, len(data), len(calibration_inputs(task))
    found = Parity(*about, task.metric(without, targets), task.metric(expected, targets))
    if not file.exists():
        return found
    outputs, _ = outputs_of(_runner(file, target), data)
    same = (outputs.argmax(-1) == expected.argmax(-1)).double().mean()
    return replace(found, file=task.metric(outputs, targets), agreement=float(same))


def _runner(file: Path, target: Device | None) -> Callable[[Tensor], Tensor]:
    session = exact_session(file, unsigned=unsigned_weights(target))
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def codes_in_file(net: Quantized, target: Device | None) -> dict[str, str]:
    """The fact of a bundle that says on which processors its 8-bit ONNX file computes what was evaluated."""
    schemes = [part.scheme for part in net.parts.values() if part.scheme.format is None]
    if not any((scheme.weights, scheme.activations) == (8, 8) for scheme in schemes):
        return {}
    if target is None or unsigned_weights(target):
        said = "unsigned: sums are exact on every processor"
    else:
        said = (
            f"signed, for {target.name}: on an x86 processor without VNNI sums saturate, and outputs are not those "
            "that were evaluated; `nas extract` without --target writes a file for any processor"
        )
    return {"weights of 8 bits in model.onnx": said}


def write_parity(found: Parity, folder: Path) -> None:
    write_atomic(folder / NAME, json.dumps(asdict(found), indent=1))


def read_parity(folder: Path) -> dict[str, Any] | None:
    """What `write_parity` wrote to a bundle; None: its net is not quantized."""
    path = folder / NAME
    return json.loads(path.read_text()) if path.exists() else None
