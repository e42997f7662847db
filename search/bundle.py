"""The files of an answer: `best/` to ship, and what `nas extract` reads."""

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from ..errors import UserError, unknown
from ..files import read_json, write_atomic
from ..hw_profiles import Device
from ..search_space.architecture import Architecture, GeneValue
from ..search_space.inputs import Inputs, arguments
from ..search_space.locate import OBJECT
from ..search_space.quantization import Quantization, policy_genes, policy_of
from ..supernet.export import export, formats_of, save_bundle
from ..supernet.quantize.quantized import Quantized
from ..supernet.shipped import quantized_for
from ..supernet.store import Supernet
from ..tasks import Task
from .csv_text import csv_of
from .manifest import check_manifest
from .origin import Origin
from .parity import Parity, codes_in_file, parity, write_parity
from .run_folder import Run, open_run

ANSWER = "answer.json"
"""Lists the files of a search's answer, and is written last."""
NAMED = ("best", "largest", "smallest", "front:N")


def write_bundle(
    origin: Origin,
    supernet: Supernet,
    architecture: Architecture,
    folder: Path,
    facts: Mapping[str, Any],
    formats: Sequence[str] | None,
    *,
    batch: int = 1,
    split: str = "validation",
    target: Device | None = None,
) -> Parity | None:
    """Extract `architecture` into `folder`, whole or not at all; an older bundle there is replaced.

    formats: as of `export`; None: the usual ones of the net.
    batch: of the format "onnx-fixed". split: on which a quantized net is compared with its other forms (`parity.json`).
    target: where the ONNX file will run (see `export`).
    Returns that comparison, if there is one.

    Error: the folder holds something else.
    """
    check_replaceable(folder)
    module = supernet.extract(architecture, origin.task).cpu()
    steps = supernet.steps
    formats = formats_of(module) if formats is None else formats
    shipped, result = quantized_for(module, origin.task, steps=steps) if policy_of(module) else Quantized(module), None
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    _remove(beside, old)  # what a killed call left
    try:
        export(shipped, origin.task.example_of(batch), beside, formats, target=target)
        if shipped.parts:
            result = parity(module, shipped, origin.task, split, beside)
            facts = {**facts, "parity": result.text, **codes_in_file(shipped, target)}
            write_parity(result, beside)
            write_atomic(beside / "policy.json", json.dumps(shipped.policy(), indent=1))
        save_bundle(beside, architecture, origin.description, {"task": origin.task_name, **facts})
        write_atomic(beside / "README.md", _readme(origin, architecture, facts, formats))
        if folder.exists():
            folder.rename(old)  # in one stroke: removing it file by file could be cut short
        beside.rename(folder)
    finally:
        _remove(beside, old)
    return result


_HUGGINGFACE = (
    "",
    "## Load it with transformers, without nas",
    "",
    "    from transformers import AutoModelForCausalLM  # or AutoModel, as of the original",
    "    model = AutoModelForCausalLM.from_pretrained('.')",
    "",
    "It needs `trust_remote_code=True` where `modeling_narrowed.py` is here: layers have sizes of their own.",
)


_FIXED = (
    "",
    "`model-fixed.onnx` is the same net for the batch that was searched for: faster, and what latencies are about.",
)


_KERNELS = (
    "",
    "It computes in floats what integers give; `nas.load('.', kernels='torchao')` computes in torchao's kernels.",
)


_QUANTIZED = (
    "",
    "`policy.json` says of each part how many bits its weights and inputs have, and how they are scaled.",
    "`parity.json` compares the net in floats, the quantized one that was evaluated, and `model.onnx` on one split.",
    "The test split is looked at once, for the chosen net: where it is of that split, this is the same look.",
)


_CODE = (
    "",
    "That runs the Python file of the space, where you have named it before; else say `trust=True`, or pass the space.",
    "`nas.load('.', format='onnx')` runs no code of the author.",
)


def check_replaceable(folder: Path) -> None:
    """Error: the folder is there, and is no bundle that a new one may replace."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / "model.json").exists():
        raise UserError(f"{folder} exists and holds no extracted net; move it away or name another folder")


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _readme(origin: Origin, architecture: Architecture, facts: Mapping[str, Any], formats: Sequence[str]) -> str:
    task = origin.task
    lines = [f"# Net {architecture.id}", "", f"Found by `nas` for the task {task.name}.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        f"Input: {_shapes(task.example)}. {task.preprocessing}".rstrip(),
        f"Output: {_output(task)}. {task.postprocessing}".rstrip(),
    ]
    if "huggingface" in formats:
        lines += _HUGGINGFACE
    if {"safetensors", "huggingface"}.intersection(formats):
        lines += [
            "",
            "## Load it in Python",
            "",
            "    import nas",
            f"    model = nas.load('.'{', space' * (OBJECT in origin.description)})  # this folder; in evaluation mode",
            f"    outputs = model({_call(task.example)})",
            *(_KERNELS if "parity" in facts else ()),
            *(_CODE if "python" in origin.description else ()),
        ]
    if "onnx" in formats:
        lines += [
            "",
            "## Run it without nas",
            "",
            "    import onnxruntime",
            "    session = onnxruntime.InferenceSession('model.onnx')",
            "    outputs = session.run(None, {node.name: array for node, array in zip(session.get_inputs(), arrays)})",
            *(_FIXED if "onnx-fixed" in formats else ()),
        ]
    lines += ["", "`architecture.json` holds the genes, `model.json` what `nas.load` needs beside the weights."]
    lines += [*(_QUANTIZED if "parity" in facts else ()), ""]
    return "\n".join(lines)


def _output(task: Task) -> str:
    what = task.outputs or "classes"
    names = ", ".join(task.labels)
    part = f", in its part {task.output!r}" if isinstance(task.output, str | int) else ""
    return ((f"logits of {names}" + (" at every pixel" if what == "maps" else "")) if names else what) + part


def _shapes(example: Inputs) -> str:
    """What the net is called with: `float32 (batch, 1, 8, 8)`; of several inputs each, by keyword or in order."""

    def shape(tensor: object) -> str:
        if not isinstance(tensor, Tensor):
            return repr(tensor)
        return f"{str(tensor.dtype).removeprefix('torch.')} ({', '.join(['batch', *map(str, tensor.shape[1:])])})"

    args, keywords = arguments(example)
    return "; ".join([*map(shape, args), *(f"{name}: {shape(value)}" for name, value in keywords.items())])


def _call(example: Inputs) -> str:
    args, keywords = arguments(example)
    return ", ".join([*(f"x{i}" if len(args) > 1 else "x" for i in range(len(args))), *(f"{n}={n}" for n in keywords)])


def write_front(path: Path, front: pd.DataFrame, architectures: Sequence[Architecture]) -> None:
    """front.csv: the table, and each architecture as JSON in the last column."""
    table = front.assign(architecture=[json.dumps(dict(a)) for a in architectures])
    write_atomic(path, csv_of(table))


def named_nets(run: Run, names: Sequence[str]) -> dict[str, tuple[Run, Architecture]]:
    """`best`, `front:3` (the third row of front.csv, from 1), `largest`, `smallest` or a JSON file of genes, by name.

    The run of a net is `run`, or the same with the quantization policies that the net is one of.
    Errors: no such net; an answer whose files do not fit together.
    """
    if any(name == "best" or name.startswith("front:") for name in names):
        check_answer(run.folder)
    results = {name: _read(run, name) for name in names}
    runs = {policies: run.quantized(policies) for policies, _ in results.values() if policies}
    served = {name: (runs[policies] if policies else run, genes) for name, (policies, genes) in results.items()}
    return {name: (of, of.space.architecture(genes)) for name, (of, genes) in served.items()}


def genes_of(folder: Path, names: Sequence[str]) -> tuple[dict[str, GeneValue], ...]:
    """Genes of the nets of a run that `named_nets` names so, without their quantization policies."""
    run = open_run(folder)
    nets = [architecture for _, architecture in named_nets(run, names).values()]
    return tuple({name: value for name, value in net.items() if name in run.space.genes} for net in nets)


def check_answer(folder: Path) -> None:
    """Error: the files of a search's answer are damaged, or not all of one answer."""
    if not (folder / ANSWER).exists():
        raise UserError(f"{folder} holds no whole answer ({ANSWER}); search first: `nas search --run {folder} ...`")
    check_manifest(folder / ANSWER)


def folder_names(named: Mapping[str, Architecture]) -> dict[str, str]:
    """How the folder of each net is called: as the net, and with its id where a file of genes would meet another."""
    plain = {name: Path(name).stem if name.endswith(".json") else name.replace(":", "-") for name in named}
    often = Counter(stem.casefold() for stem in plain.values())
    return {
        name: f"{stem}-{named[name].id}" if name.endswith(".json") and often[stem.casefold()] > 1 else stem
        for name, stem in plain.items()
    }


def _read(run: Run, name: str) -> tuple[Quantization | None, Architecture]:
    """Genes, and of which policies they are where the run's own space has none."""
    if name in ("largest", "smallest"):
        return None, run.space.largest if name == "largest" else run.space.smallest
    if name.startswith("front:"):
        return _with_policies(run, _row(run, name.removeprefix("front:")), run.folder / "best")
    if name != "best" and not name.endswith(".json"):
        raise unknown("architecture", name, [*NAMED, "FILE.json"])
    path = run.folder / "best" / "architecture.json" if name == "best" else Path(name)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; search first (`nas search --run {run.folder} ...`) or name a JSON file"
        )
    return _with_policies(run, json.dumps(read_json(path, "an architecture")), path.parent)


def _row(run: Run, number: str) -> str:
    rows = pd.read_csv(run.folder / "front.csv")["architecture"]
    if not (number.isdecimal() and len(number) < 10 and 1 <= int(number) <= len(rows)):
        raise UserError(f"front:{number[:20]} is not on the front; front:1 to front:{len(rows)} are")
    return str(rows.iloc[int(number) - 1])


def _with_policies(run: Run, text: str, folder: Path) -> tuple[Quantization | None, Architecture]:
    """The genes in `text` (JSON). The policies are those that the bundle in `folder` is of, or else `best/`."""
    genes = Architecture.from_json(text)
    if not policy_genes(genes) or genes in run.space:
        return None, genes
    for path in (folder / "model.json", run.folder / "best" / "model.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return Quantization.read(**json.loads(path.read_text())["space"]["quantize"]), genes
    raise UserError(
        f"the net has a quantization policy, and {path}, which would say what it chose from, is missing or of another "
        f"search; search again: `nas search --run {run.folder} --quantize ...`"
    )
