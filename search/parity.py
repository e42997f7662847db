"""A quantized net beside itself: before its policy, as it was evaluated, and as the ONNX file that is shipped."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves

from ..files import write_atomic
from ..hw_profiles import Device
from ..hw_profiles.policies import unsigned_weights
from ..supernet.evaluate import agreement, measured, predictor, split_of
from ..supernet.export import FILES
from ..supernet.load import load
from ..supernet.quantize.post_training import SAMPLES
from ..supernet.quantize.quantized import Quantized
from ..tasks import Task
from ..values import Metric

NAME = "parity.json"


@dataclass(frozen=True)
class Parity:
    """The task's metric of the net in floats, of the quantized one and of `model.onnx`, on one split.

    calibrated: training inputs that the scales come from. agreement: of file and quantized net, the share of equal
    answers (of values R squared). It and `file`: None without an ONNX file.
    """

    metric: Metric
    split: str
    samples: int | None
    calibrated: int
    floats: float
    quantized: float
    file: float | None = None
    agreement: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON holds them."""
        return {**asdict(self), "metric": self.metric.name}

    @property
    def text(self) -> str:
        result = f"in floats {self.metric.text(self.floats)}, quantized {self.metric.text(self.quantized)}"
        if self.file is not None and self.agreement is not None:
            file = self.metric.text(self.file)
            result += f", as model.onnx {file}, agreeing with the quantized net by {self.agreement:.2%}"
        fewer = f", all that there are of the {SAMPLES} asked for" if self.calibrated < SAMPLES else ""
        same = "the whole stream" if self.samples is None else f"the same {self.samples}"
        return f"{result} ({same} of {self.split}); calibrated on {self.calibrated} inputs{fewer}"


def parity(floats: nn.Module, net: Quantized, task: Task, split: str, folder: Path) -> Parity:
    """Compare them on a split of the task. floats: the net without its policy; folder: what `export` wrote of `net`.

    The test split is looked at once, for the chosen net: this is the same look, at the same net in its other forms.
    """
    data, module = split_of(task, split), predictor(net.module.eval(), task)
    calibrated = len(tree_leaves(task.calibration_inputs(SAMPLES))[0])
    result = Parity(
        task.metric,
        split,
        data.size,
        calibrated,
        measured(predictor(floats.eval(), task), task, data),
        measured(module, task, data),
    )
    if not (folder / FILES["onnx"]).exists():
        return result
    file = predictor(load(folder, format="onnx"), task)
    return replace(result, file=measured(file, task, data), agreement=agreement(file, module, task, data))


def codes_in_file(net: Quantized, target: Device | None) -> dict[str, str]:
    """The fact of a bundle that says on which processors its 8-bit ONNX file computes what was evaluated."""
    schemes = [part.scheme for part in net.parts.values() if part.scheme.format is None]
    if not any((scheme.weights, scheme.activations) == (8, 8) for scheme in schemes):
        return {}
    if target is None or unsigned_weights(target):
        codes = "unsigned: sums are exact on every processor"
    else:
        codes = (
            f"signed, for {target.name}: on an x86 processor without VNNI sums saturate, and outputs are not those "
            "that were evaluated; `nas extract` without --target writes a file for any processor"
        )
    return {"weights of 8 bits in model.onnx": codes}


def write_parity(parity: Parity, folder: Path) -> None:
    write_atomic(folder / NAME, json.dumps(parity.fields, indent=1))
