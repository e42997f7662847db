"""The answer of a search as one JSON object, for scripts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...values import Estimate
from ..parity import read_parity
from ..pipeline import Answer
from .analysis import Analysis

OWN, SHARED = ("best", "front.csv", "report.html"), ("study.db", "search.log")


def text_of(content: Mapping[str, Any]) -> str:
    """One object on one line. Numbers that are not finite, or not known, are null."""
    return json.dumps(plain(content), allow_nan=False)


def answer_json(
    answer: Answer, analysis: Analysis, facts: Mapping[str, str], folder: Path, run_folder: Path
) -> dict[str, Any]:
    """The answer with its files; an estimate is in the unit that the name of its metric ends with."""
    paths = {"run": run_folder, **{n: folder / n for n in OWN}, **{n: run_folder / n for n in SHARED}}
    return {
        "id": answer.architecture.id,
        "architecture": dict(answer.architecture),
        "metric": answer.metric.name,
        "validation": answer.validation,
        "test": answer.test,
        "latency": _estimate(answer.latency),
        "predicted_latency": _estimate(answer.predicted),
        "budget_ms": answer.bound_ms,
        **({"parity": found} if (found := read_parity(folder / "best")) else {}),
        "costs": {n: {**_estimate(x), "allowed": answer.limits.get(n)} for n, x in answer.costs.items()},
        "bounded_by": answer.bounded_by,
        "evaluations": len(answer.study),
        "front": _rows(answer),
        "knee": analysis.knee,
        "searches": analysis.comparison.to_dict("records"),
        "importances": analysis.importances,
        "why": analysis.why,
        "notes": answer.notes,
        "facts": dict(facts),
        "paths": {name.split(".")[0]: str(path) for name, path in paths.items()},
    }


def _estimate(found: Estimate) -> dict[str, object]:
    return {**vars(found), "metric": found.metric.name}


def _rows(answer: Answer) -> list[dict[str, object]]:
    """The front in the order of front.csv, each net with its genes in an object of their own."""
    genes = answer.study.space.genes
    rows = answer.front.drop(columns=[n for n in genes if n in answer.front]).to_dict("records")
    return [
        {**{str(k): v for k, v in row.items()}, "architecture": dict(a)}
        for row, a in zip(rows, answer.front_architectures, strict=True)
    ]


def plain(value: Any) -> Any:
    """What JSON knows: numpy's numbers as Python's, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
