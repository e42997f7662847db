"""The files of an answer: `best/` to ship, and what `nas extract` reads."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ..errors import UserError, unknown
from ..files import write_atomic
from ..search_space.architecture import Architecture
from ..search_space.quantization import policy_of
from ..supernet.export import export, save_bundle
from ..supernet.quantize.quantized import Quantized
from ..supernet.shipped import quantized_for
from ..supernet.statistics import extract_for
from ..supernet.store import Supernet
from .run_folder import Run

NAMED = ("best", "largest", "smallest", "front:N")


def write_bundle(
    run: Run,
    supernet: Supernet,
    architecture: Architecture,
    folder: Path,
    facts: Mapping[str, Any],
    formats: Sequence[str],
    batch: int = 1,
) -> nn.Module:
    """Extract `architecture` into `folder`, whole or not at all; an older bundle there is replaced.

    batch: of the format "onnx-fixed".

    Error: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").exists():
        raise UserError(f"{folder} exists and holds no extracted net; move it away or name another --out")
    module = extract_for(supernet, run.task, architecture)
    shipped = quantized_for(module, run.task) if policy_of(module) else Quantized(module)
    beside, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    _remove(beside, old)  # what a killed call left
    try:
        export(shipped, run.task.example.repeat(batch, *(1 for _ in run.task.input_shape)), beside, formats)
        save_bundle(beside, architecture, run.description, {"task": run.task_name, **facts})
        write_atomic(beside / "README.md", _readme(run, architecture, facts, formats))
        if folder.exists():
            folder.rename(old)  # in one stroke: removing it file by file could be cut short
        beside.rename(folder)
    finally:
        _remove(beside, old)
    return shipped.twin


_FIXED = (
    "",
    "`model-fixed.onnx` is the same net for the batch that was searched for: faster, and what latencies are about.",
)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _readme(run: Run, architecture: Architecture, facts: Mapping[str, Any], formats: Sequence[str]) -> str:
    task, shape = run.task, ", ".join(map(str, run.task.input_shape))
    lines = [f"# Net {architecture.id}", "", f"Found by `nas` for the task {task.name}.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        f"Input: float32, (batch, {shape}). {task.preprocessing}",
        f"Output: (batch, {task.classes}) logits of {', '.join(task.labels)}.",
    ]
    if "safetensors" in formats:
        lines += [
            "",
            "## Load it in Python",
            "",
            "    import nas",
            "    model = nas.load('.')  # this folder; a torch.nn.Module in evaluation mode",
            f"    logits = model(x)      # x: (batch, {shape})",
        ]
    if "onnx" in formats:
        lines += [
            "",
            "## Run it without nas",
            "",
            "    import onnxruntime",
            "    session = onnxruntime.InferenceSession('model.onnx')",
            "    (logits,) = session.run(None, {session.get_inputs()[0].name: x})  # x: a float32 numpy array",
            *(_FIXED if "onnx-fixed" in formats else ()),
        ]
    lines += ["", "`architecture.json` holds the genes, `model.json` what `nas.load` needs beside the weights.", ""]
    return "\n".join(lines)


def write_front(path: Path, front: pd.DataFrame, architectures: Sequence[Architecture]) -> None:
    """front.csv: the table, and each architecture as JSON in the last column."""
    table = front.assign(architecture=[json.dumps(dict(a)) for a in architectures])
    write_atomic(path, table.to_csv(index=False))


def named_architecture(run: Run, name: str) -> Architecture:
    """`best`, `front:3` (the third row of front.csv, from 1), `largest`, `smallest` or a JSON file of genes."""
    if name in ("largest", "smallest"):
        return run.space.largest if name == "largest" else run.space.smallest
    if name == "best":
        return _from_file(run, run.folder / "best" / "architecture.json")
    if name.startswith("front:"):
        return _from_front(run, name.removeprefix("front:"))
    if not name.endswith(".json"):
        raise unknown("architecture", name, [*NAMED, "FILE.json"])
    return _from_file(run, Path(name))


def _from_file(run: Run, path: Path) -> Architecture:
    if not path.exists():
        raise UserError(
            f"{path} does not exist; search first (`nas search --run {run.folder} ...`) or name a JSON file"
        )
    return run.space.architecture(Architecture.from_json(path.read_text()))


def _from_front(run: Run, number: str) -> Architecture:
    path = run.folder / "front.csv"
    if not path.exists():
        raise UserError(f"{run.folder} has no front.csv; search first: `nas search --run {run.folder} ...`")
    rows = pd.read_csv(path)["architecture"]
    if not number.isdigit() or not 1 <= int(number) <= len(rows):
        raise UserError(f"front:{number} is not on the front; front:1 to front:{len(rows)} are")
    return run.space.architecture(Architecture.from_json(rows.iloc[int(number) - 1]))
