"""What is said of a search is true: importances, marginals, curves, and the sentences on why a net was chosen."""

import re
import time
from datetime import datetime, timedelta

import pytest

import nas
from nas.search.baselines import compare_baselines
from nas.search.pipeline import Choice
from nas.search.reporting.analysis import OURS, analyse, comparison_notes
from nas.search.reporting.curves import curve_of, frame_of, worked_seconds
from nas.search.reporting.importance import importances
from nas.search.reporting.marginals import marginals
from nas.search.reporting.why import differences
from nas.tasks.task import ACCURACY
from nas.values import LATENCY, Estimate

SPACE = nas.GeneSpace(
    {"width": [1, 2, 3, 4], "idle": [1, 2, 3], "mixer": ["softmax", "pool"], "other": ["x", "y", "z"], "one": [7]}
)


def accuracy(a: nas.Architecture) -> float:
    return 0.5 + 0.1 * a["width"] + (0.05 if a["mixer"] == "softmax" else 0)


def latency_ms(a: nas.Architecture) -> float:
    return a["width"] + (4.0 if a["mixer"] == "softmax" else 0) + 0.01 * a["idle"]


def studied(evaluations: int = 60, upper: float = 6.5) -> nas.Study:
    objectives = {"accuracy": nas.maximize(accuracy), "latency_ms": nas.minimize(latency_ms)}
    bound = nas.Constraint("latency_bound_ms", upper=upper, function=latency_ms)
    return nas.search(SPACE, objectives, constraints=[bound], evaluations=evaluations)


def answered(study: nas.Study, bound: float = 6.5) -> Choice:
    """The best net of the front, as the pipeline would answer."""
    front = study.front()
    chosen = study.architecture(front.iloc[0])
    ms = latency_ms(chosen)
    latency = Estimate(LATENCY, ms, ms, ms, "analytic", "D")
    return Choice(
        architecture=chosen,
        metric=ACCURACY,
        validation=accuracy(chosen),
        test=0.5,
        latency=latency,
        predicted=latency,
        front=front,
        front_architectures=[study.architecture(i) for i in front["id"]],
        trials=study.trials(),
        study=study,
        limits={"latency_ms": bound},
        bounded_by="latency; better nets that exceed it: 1, up to 95.00%",
    )


def test_the_gene_that_matters_leads_and_idle_genes_explain_nothing() -> None:
    found = importances(studied())
    assert list(found) == ["accuracy", "latency_ms"]
    assert next(iter(found["accuracy"])) == "width"
    assert next(iter(found["latency_ms"])) == "mixer"
    assert found["accuracy"]["other"] < 0.05
    assert found["accuracy"]["width"] > 0.7
    assert 0.9 < sum(found["accuracy"].values()) <= 1.001
    assert "one" not in found["accuracy"]


def test_few_nets_or_no_choice_say_nothing() -> None:
    assert importances(studied(20)) == {}
    constant = nas.search(SPACE, {"v": nas.maximize(lambda _: 1.0)}, evaluations=40)
    assert importances(constant) == {"v": {}}


def test_a_switch_takes_the_credit_of_the_genes_that_it_removes() -> None:
    def function(trial):
        from torch import nn

        keep = trial.suggest_categorical("keep", [True, False])
        if keep:
            trial.suggest_categorical("mixer", ["a", "b", "c"])
        size = trial.suggest_int("size", 1, 8)
        return nn.Linear(size, 9 if keep else 2)

    study = nas.search(nas.SearchSpace(function), {"v": nas.maximize(lambda a: float(a["keep"]))}, evaluations=32)
    found = importances(study)["v"]
    assert found["keep"] > 0.9
    assert found["mixer"] < 0.05


@pytest.mark.slow
def test_importances_of_many_nets_take_seconds() -> None:
    space = nas.GeneSpace({f"g{i}": [1, 2, 3, 4] for i in range(27)})
    values = {"a": nas.maximize(lambda a: a["g1"] + 0.3 * a["g2"] * a["g3"]), "b": nas.minimize(lambda a: a["g4"])}
    study = nas.search(space, values, algorithm="random", evaluations=1500)
    start = time.perf_counter()
    found = importances(study)
    assert time.perf_counter() - start < 10  # one or two on a free core
    assert [next(iter(found[n])) for n in ("a", "b")] == ["g1", "g4"]


def test_marginals_of_a_front() -> None:
    space = nas.GeneSpace({"width": [1, 2, 4], "mixer": ["softmax", None], "one": [3]})
    front = [nas.Architecture(g) for g in ({"width": 1}, {"width": 1, "mixer": None}, {"width": 4, "mixer": None})]
    width, mixer = marginals(space.genes, front)
    assert (width.counts, width.shift) == ([("1", 2), ("4", 1)], ("1", "1"))
    assert mixer.most == ("None", 2)
    assert mixer.present == (False, True, True)
    assert dict(mixer.counts) == {"None": 2, "absent": 1}


def test_curves_end_at_the_hypervolume_of_the_study_and_never_fall() -> None:
    study = studied()
    frame = frame_of(study)
    curve = curve_of(study, frame)
    box = float((frame.reference - frame.best).prod())
    assert curve.hypervolume == sorted(curve.hypervolume)
    assert curve.hypervolume[-1] * box == pytest.approx(study.hypervolume())
    assert len(curve.hypervolume) == len(curve.seconds) == len(study)
    failing = nas.search(SPACE, {"v": nas.minimize(lambda a: 1.0 if a["width"] > 1 else float("nan"))}, evaluations=12)
    assert frame_of(failing) is not None


def test_pauses_between_calls_are_no_work() -> None:
    start = datetime(2026, 1, 1)
    times = [start + timedelta(seconds=s) for s in (0, 1, 2, 3602, 3603)]
    assert worked_seconds(times) == [1, 2, 3, 4, 5]
    assert worked_seconds([]) == []
    assert worked_seconds(times[:1]) == [0]


def test_why_is_true() -> None:
    study = studied(72)  # all of the space
    answer = answered(study)
    place, bounded, beside = analyse(answer).why
    kept = [e for e in study.evaluations if e.feasible]
    assert answer.architecture["mixer"] == "pool"
    assert f"none of {len(kept)} evaluated nets that keep every limit has more" in place
    assert f"net 1 of {len(answer.front)} on the front" in place
    assert "takes 4.01 ms of the 6.5 ms" in place
    assert bounded == "Bounded by latency; better nets that exceed it: 1, up to 95.00%."
    assert f"shares 2 of its 4 open genes with all {len(answer.front)} nets of the front (idle=1 and mixer=" in beside
    faster = SPACE.architecture({**answer.architecture, "width": 3})  # of three equally fast ones, the most alike
    assert f"the next faster net of the front, {faster.id} (80.00%, 3.01 ms) has width=3 (here 4);" in beside
    better = re.search(r"next better evaluated net, (\w+) \(95.00%, 8.01 ms\), which exceeds a limit,", beside)
    assert study.architecture(better[1])["mixer"] == "softmax"


def test_why_without_budget_or_neighbours() -> None:
    study = nas.search(nas.GeneSpace({"a": [1]}), {"accuracy": nas.maximize(len), "latency_ms": nas.minimize(len)})
    net = study.architectures[0]
    latency = Estimate(LATENCY, 1.0, 1.0, 1.0, "analytic", "D")
    front = study.front()
    answer = Choice(net, ACCURACY, 1.0, 1.0, latency, latency, front, [net], study.trials(), study)
    place, _, beside = analyse(answer).why
    assert place == (
        "100.00% accuracy on validation: none of 1 evaluated nets that keep every limit has more; "
        "it is net 1 of 1 on the front."
    )
    assert beside == "No other net is on the front."


def test_differences_name_absent_genes() -> None:
    a, b = nas.Architecture({"w": 1, "keep": True, "m": "x"}), nas.Architecture({"w": 2, "keep": False})
    assert differences(a, b) == "has w=2 (here 1), keep=False (here True) and no m (here x)"


def test_the_comparison_is_of_equal_budgets_in_one_frame_and_says_when_a_baseline_wins() -> None:
    study = studied(12)
    analysis = analyse(answered(study), compare_baselines(study))
    rows = analysis.comparison.set_index("search")
    assert list(rows.index) == [OURS, "random search", "uniform scaling"]
    assert rows["evaluations"].tolist()[:2] == [12, 12]
    assert {name: c.hypervolume[-1] for name, c in analysis.curves.items()} == rows["hypervolume"].to_dict()
    table = analysis.comparison
    table.loc[1, ["hypervolume", "best"]] = [1.0, 0.99]
    table.loc[2, ["hypervolume", "best"]] = [0.0, 0.1]
    covers, better = comparison_notes(analysis)
    assert covers.startswith("Random search covers as much as this search or more: hypervolume 1.0000 with 12")
    assert "99.00% against" in better
