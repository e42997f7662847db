"""Evaluations in steps: who is given up is beaten, what is told of him is a forecast, and no front changes by it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from nas.search.evaluation import Evaluation
from nas.search.race import FEWEST, Forecast, Race, race_of
from nas.search.steps import evaluate
from nas.search.validation import Validation
from nas.supernet.evaluate import EVALUATION_BATCH

SHARES = (0.25, 0.5, 1)
SPACE = nas.GeneSpace({"a": [1, 2, 3, 4, 5, 6], "b": [1, 2, 3, 4, 5, 6], "c": ["x", "y", "z"]})


def gain(a: nas.Architecture, fidelity: float = 1.0) -> float:
    """Low fidelities are 30 % pessimistic, and somewhat wrong."""
    bias, wrong = 1 - 0.4 * (1 - fidelity), 0.2 * (1 - fidelity) * np.sin(7 * a["a"] + 3 * a["b"])
    return bias * (a["a"] * a["b"] + {"x": 0, "y": 3, "z": -9}[a["c"]]) + wrong


def cost(a: nas.Architecture) -> float:
    return a["a"] + a["b"] ** 1.5


STEPPED = {"gain": nas.maximize(gain, fidelities=SHARES), "cost": nas.minimize(cost)}
WHOLE = {"gain": nas.maximize(gain), "cost": nas.minimize(cost)}


def whole(gain: float, *early: float, cost: float = 1.0) -> Evaluation:
    net = SPACE.architecture({"a": 1, "b": 1, "c": "x"})
    return Evaluation(net, {"gain": gain, "cost": cost}, (-gain, cost), (), failed=False, early={"gain": early})


def test_a_forecast_is_the_line_through_what_was_seen_and_its_margin_that_of_the_rest() -> None:
    seen = [whole(2 * x + 1, x, x + 100) for x in range(12)]
    first, second = race_of(STEPPED, seen).forecasts["gain"]
    assert (first.slope, first.start, first.margin) == pytest.approx((2, 1, 0), abs=1e-9)
    assert second(103) == pytest.approx(7)
    noise = np.random.default_rng(0).standard_normal(400)
    [scattered] = race_of({"gain": nas.maximize(gain, fidelities=(0.5, 1))}, [whole(n, 0.0) for n in noise]).forecasts[
        "gain"
    ]
    assert scattered.slope == 0
    assert scattered.margin == pytest.approx(1.65 * noise.std(), rel=0.02)  # 95 % of a normal distribution


def test_too_few_whole_evaluations_stop_nobody() -> None:
    few = [whole(float(x), x, x) for x in range(FEWEST - 1)]
    assert not race_of(STEPPED, few).forecasts
    assert race_of(STEPPED, [*few, whole(99.0, 99, 99)]).forecasts
    assert not race_of(WHOLE, few * 3).forecasts


@pytest.mark.parametrize(
    ("gain", "cost", "upper", "given_up"),
    [
        (0.50, 1.0, None, False),  # 0.1 better than its forecast it would be as good as the best
        (0.39, 1.0, None, True),
        (0.39, 0.9, None, False),  # but cheaper than it
        (0.39, 1.0, 0.5, True),
        (0.90, 1.0, 0.5, True),  # breaks a bound for certain
    ],
)
def test_given_up_is_who_is_beaten_at_the_better_end(
    gain: float, cost: float, upper: float | None, given_up: bool
) -> None:
    race = Race({"gain": [Forecast(1.0, 0.0, 0.1)] * 2}, np.array([[-0.5, 1.0]]))
    bounds = [] if upper is None else [nas.Constraint("cost", upper=upper)]
    found = race.given_up(STEPPED, bounds, {"gain": 0}, {"gain": gain, "cost": cost})
    assert found == ({"gain": pytest.approx(gain), "cost": cost} if given_up else None)


@pytest.mark.parametrize("name", ["guided", "nsga2"])
def test_the_front_is_of_whole_evaluations_and_a_stopped_search_resumes(name: str, tmp_path: Path) -> None:
    def run(evaluations: int, path: str) -> nas.Study:
        return nas.search(SPACE, STEPPED, algorithm=name, evaluations=evaluations, storage=tmp_path / path)

    study = run(45, "whole.db")
    assert all(e.fidelity == 1 for e in study.front_evaluations())
    assert set(study.trials()["fidelity"]) <= set(SHARES)
    assert all(e.metrics["gain"] == pytest.approx(gain(e.architecture)) for e in study.evaluations if e.fidelity == 1)
    for evaluations in (33, 45):
        assert run(evaluations, "parts.db").evaluations == study.evaluations[:evaluations]


def test_no_net_of_the_true_front_is_given_up_and_most_others_are() -> None:
    stepped = nas.search(SPACE, STEPPED, algorithm="random", evaluations=108)
    plain = nas.search(SPACE, WHOLE, algorithm="random", evaluations=108)
    assert set(stepped.front()["id"]) == set(plain.front()["id"])
    assert np.mean([e.fidelity for e in stepped.evaluations]) < 0.6
    stopped = [e for e in stepped.evaluations if e.fidelity < 1]
    error = [e.metrics["gain"] - gain(e.architecture) for e in stopped]
    assert np.abs(error).max() < 1  # of a range of 45: what is told of them is a forecast of the whole


def test_a_function_that_repeats_is_called_until_it_can_be_told() -> None:
    calls, rng = Counter[str](), np.random.default_rng(0)

    def noisy(a: nas.Architecture) -> float:
        calls[a.id] += 1
        return gain(a) + rng.standard_normal()

    objectives = {"gain": nas.maximize(noisy, repeats=16), "cost": nas.minimize(cost)}
    study = nas.search(SPACE, objectives, algorithm="random", evaluations=108)
    assert all(round(e.fidelity * 16) == calls[e.architecture.id] for e in study.evaluations)
    assert all(calls[e.architecture.id] == 16 for e in study.front_evaluations())
    assert np.mean(list(calls.values())) < 8
    error = [e.metrics["gain"] - gain(e.architecture) for e in study.evaluations if e.fidelity == 1]
    assert np.std(error) == pytest.approx(1 / 4, rel=0.3)  # of a mean of 16


def test_repeats_make_means() -> None:
    values = iter([1.0, 2.0, 6.0])
    problem = nas.search(
        SPACE, {"v": nas.minimize(lambda _: next(values), repeats=3)}, algorithm="random", evaluations=1
    )
    assert problem.evaluations[0].metrics["v"] == 3
    assert problem.evaluations[0].early["v"] == (1.0, 1.5)


def test_a_failure_at_the_first_step_ends_the_evaluation() -> None:
    asked: list[float] = []

    def broken(a: nas.Architecture, fidelity: float) -> float:
        asked.append(fidelity)
        return float("nan") if a["a"] < 6 else 1.0

    study = nas.search(SPACE, {"v": nas.minimize(broken, fidelities=SHARES)}, algorithm="random", evaluations=30)
    failed = [e for e in study.evaluations if e.failed]
    assert len(failed) == sum(e.architecture["a"] < 6 for e in study.evaluations)
    assert asked.count(1) == 30 - len(failed)


def test_what_was_given_up_is_not_shared_and_other_fidelities_are_other_values(tmp_path: Path) -> None:
    asked = Counter[tuple[str, float]]()

    def counted(a: nas.Architecture, fidelity: float = 1.0) -> float:
        asked[a.id, fidelity] += 1
        return gain(a, fidelity)

    def run(name: str, fidelities: tuple[float, ...] = SHARES) -> nas.Study:
        stepped = nas.maximize(counted, key="gain", fidelities=fidelities)
        storage = tmp_path / "study.db"
        objectives = {"gain": stepped, "cost": nas.minimize(cost)}
        return nas.search(SPACE, objectives, name=name, storage=storage, algorithm="random", evaluations=40)

    first = run("first")
    kept = [e for e in first.evaluations if e.fidelity == 1]
    second = run("second")
    assert second.evaluations[: len(kept)] == kept  # with their early values
    assert 0 < len(kept) < 40
    assert all(asked[e.architecture.id, share] == 1 for e in kept for share in SHARES)
    assert len(run("third", (0.5, 1))) == 40


@pytest.mark.parametrize(
    "settings", [{"fidelities": ()}, {"fidelities": (1, 0.5)}, {"fidelities": (0.5,)}, {"fidelities": (0, 1)},
                 {"repeats": 0}, {"repeats": 2, "key": "k"}, {"repeats": 2, "fidelities": (0.5, 1)}]
)  # fmt: skip
def test_steps_that_cannot_be_are_one_sentence(settings: dict) -> None:
    with pytest.raises(nas.UserError, match=r"cannot be; .* right"):
        nas.minimize(gain, **settings)


def test_steps_of_functions_that_take_a_list() -> None:
    seen: list[tuple[int, float]] = []

    def gains(nets: list, fidelity: float) -> list[float]:
        seen.append((len(nets), fidelity))
        return [gain(a, fidelity) for a in nets]

    def search(objective: object) -> list:
        objectives = {"gain": objective, "cost": nas.minimize(cost)}
        return nas.search(SPACE, objectives, algorithm="random", evaluations=60).evaluations

    together = search(nas.maximize(gains, batched=True, fidelities=SHARES))
    assert together == search(nas.maximize(gain, fidelities=SHARES))
    assert seen[:3] == [(20, 0.25), (20, 0.5), (20, 1)]  # of the first nothing is known
    assert seen[5][0] <= seen[4][0] < seen[3][0] == 20


# The validation split as a fidelity


@pytest.fixture(scope="module")
def digits() -> tuple[nas.Supernet, nas.Task]:
    task = nas.load_task("digits")
    space = nas.SearchSpace(nas.TransformerSpace(patch=4, width=[16, 32], layers=2, ffn_ratio=[1, 2]).bind(
        task.input_shape, task.classes))  # fmt: skip
    return nas.Supernet(space), task.subset()


def test_parts_of_the_split_sum_up_to_the_whole(digits: tuple[nas.Supernet, nas.Task]) -> None:
    supernet, task = digits
    validation, nets = Validation(supernet, task), [supernet.space.largest, supernet.space.smallest]
    assert validation.fidelities[-1] == 1
    steps = [list(validation(nets, share)) for share in validation.fidelities]
    assert steps[-1] == list(Validation(supernet, task)(nets))
    assert steps[-1] == pytest.approx([nas.evaluate_subnet(supernet, task, net) for net in nets])
    assert list(validation(nets[::-1])) == steps[-1][::-1]  # after a race another one begins anew


def test_low_fidelities_are_whole_batches_in_an_order_of_chance(digits: tuple[nas.Supernet, nas.Task]) -> None:
    supernet, task = digits
    validation = Validation(supernet, task)
    parts = np.array(validation.fidelities[:-1]) * len(task.validation)
    assert len(parts)
    assert np.allclose(parts % EVALUATION_BATCH, 0)
    targets = validation.data.targets
    assert not torch.equal(targets, task.validation.targets)
    assert torch.equal(targets.sort().values, task.validation.targets.sort().values)
    counts = torch.bincount(targets[: int(parts[0])], minlength=10)
    assert counts.min() > 0


def test_an_evaluation_without_a_race_is_whole() -> None:
    study = nas.search(SPACE, STEPPED, algorithm="random", evaluations=1)
    nets = list(SPACE.enumerate())[:30]
    assert all(found.fidelity == 1 for _, found in evaluate(study.problem, nets))
