"""What a report says of a search: which genes mattered, what its front shares, how it got there, why its net."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from ...values import Metric
from ..pipeline import Choice
from ..study import Study
from .curves import Curve, curve_of, frame_of
from .importance import importances
from .marginals import Marginal, marginals
from .why import why

OURS = "this search"


@dataclass(frozen=True)
class Analysis:
    """importances: objective -> gene -> share of the variance. marginals: the genes along the front, by latency.

    curves: name of the study -> its hypervolume as a share of one common frame. comparison: a row for each study, with
    `search`, `evaluations`, `hypervolume`, `front` (nets), and the best net that keeps all limits (`best`, `latency_ms`
    as predicted, `id`; missing where none does). fronts: those of the baselines, by name. knee: the net at the bend.
    """

    metric: Metric
    why: list[str]
    knee: str
    importances: Mapping[str, Mapping[str, float]]
    marginals: list[Marginal]
    curves: Mapping[str, Curve]
    comparison: pd.DataFrame
    fronts: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def analyse(answer: Choice, baselines: Mapping[str, Study] | None = None) -> Analysis:
    """Look at an answer, and at the studies of the baselines beside it."""
    studies = {OURS: answer.study, **(baselines or {})}
    frame = frame_of(*studies.values())
    curves = {} if frame is None else {name: curve_of(study, frame) for name, study in studies.items()}
    by_latency = sorted(answer.study.front_evaluations(), key=lambda e: e.metrics["latency_ms"])
    rows = [_row(name, study, curves, answer.metric) for name, study in studies.items()]
    return Analysis(
        metric=answer.metric,
        why=why(answer),
        knee=str(answer.study.knee()["id"]),
        importances=importances(answer.study),
        marginals=marginals(answer.study.space.genes, [e.architecture for e in by_latency]),
        curves=curves,
        comparison=pd.DataFrame(rows),
        fronts={name: study.front() for name, study in (baselines or {}).items()},
    )


def comparison_notes(analysis: Analysis) -> list[str]:
    """A sentence for each baseline that did as well as the search in its front, or better in its best net."""
    own, *others = analysis.comparison.to_dict("records")
    metric = analysis.metric
    notes = [
        f"{row['search'].capitalize()} covers as much as this search or more: hypervolume {row['hypervolume']:.4f} "
        f"with {row['evaluations']} evaluations, against {own['hypervolume']:.4f} with {own['evaluations']}."
        for row in others
        if row["hypervolume"] >= own["hypervolume"]
    ]
    return notes + [
        f"{row['search'].capitalize()} found a net that keeps the limits, as predicted, and is better on validation "
        f"than the best of this search: {row['id']}, {metric.text(row['best'])} against "
        f"{metric.text(own['best'])}."
        for row in others
        if row["id"] is not None and metric.sign * row["best"] < metric.sign * own["best"]
    ]


def _row(name: str, study: Study, curves: Mapping[str, Curve], metric: Metric) -> dict[str, object]:
    front = study.front_evaluations()
    best = min(front, key=lambda e: (metric.sign * e.metrics[metric.name], e.metrics["latency_ms"]), default=None)
    share = curves[name].hypervolume[-1] if name in curves and curves[name].hypervolume else 0.0
    return {
        "search": name,
        "evaluations": len(study),
        "hypervolume": share,
        "front": len(front),
        "best": None if best is None else best.metrics[metric.name],
        "latency_ms": None if best is None else best.metrics["latency_ms"],
        "id": None if best is None else best.architecture.id,
    }
