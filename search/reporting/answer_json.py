"""The answer of a search as one JSON object, for scripts."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...values import Estimate
from ..answer import Answer
from ..pipeline import Choice

OWN, SHARED = ("best", "front.csv", "report.html"), ("study.db", "search.log")


def text_of(content: Mapping[str, Any]) -> str:
    """One object on one line. Numbers that are not finite, or not known, are null."""
    return json.dumps(plain(content), allow_nan=False)


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer with its files; an estimate is in the unit that the name of its metric ends with."""
    choice, analysis = answer.choice, answer.analysis
    places = ((answer.folder, OWN), (answer.run, SHARED))
    paths = {name: folder / name for folder, names in places if folder for name in names}
    return {
        "id": choice.architecture.id,
        "architecture": dict(choice.architecture),
        "metric": choice.metric.name,
        "validation": choice.validation,
        "test": choice.test,
        "latency": _estimate(choice.latency),
        "predicted_latency": _estimate(choice.predicted),
        "budget_ms": choice.bound_ms,
        **({"parity": answer.parity.fields} if answer.parity else {}),
        "costs": {n: {**_estimate(x), "allowed": choice.limits.get(n)} for n, x in choice.costs.items()},
        "bounded_by": choice.bounded_by,
        "evaluations": len(choice.study),
        "front": _rows(choice),
        "knee": analysis.knee,
        "searches": analysis.comparison.to_dict("records"),
        "importances": analysis.importances,
        "why": analysis.why,
        "notes": answer.notes,
        "facts": answer.facts,
        "paths": {"run": str(answer.run)} | {name.split(".")[0]: str(path) for name, path in paths.items()},
    }


def _estimate(estimate: Estimate) -> dict[str, object]:
    return {**vars(estimate), "metric": estimate.metric.name}


def _rows(choice: Choice) -> list[dict[str, object]]:
    """The front in the order of front.csv, each net with its genes in an object of their own."""
    genes = choice.study.space.genes
    rows = choice.front.drop(columns=[n for n in genes if n in choice.front]).to_dict("records")
    return [
        {**{str(k): v for k, v in row.items()}, "architecture": dict(a)}
        for row, a in zip(rows, choice.front_architectures, strict=True)
    ]


def plain(value: Any) -> Any:
    """What JSON knows: numpy's numbers as Python's, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
