"""The table of costs: every name is an objective and a limit of a search, on one device or on two; known answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from nas_command import TINY_SPACE, nas_command
from torch import nn

import nas
from nas.cli.live import front_rows
from nas.hw_profiles import Measurement, fused
from nas.hw_profiles.points import Calibration, Point
from nas.search.candidates import Candidates
from nas.search.costs import COSTS, OF_REQUESTS, TABLE, check_estimates
from nas.search.limits import AppliedLimit, applied
from nas.search.pipeline import choose
from nas.search.question import Question
from nas.search.reporting import terminal, why
from nas.search.units import parse_limits
from nas.search.verify import verify
from nas.search_space.locate import describe_space, space_from
from nas.supernet.store import Supernet
from nas.values import ENERGY, EXAMPLES, LATENCY, P95, PARAMS, parse_limit


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """Nets of a tiny space, not trained, on a device of which everything was measured."""
    path, task = tmp_path_factory.mktemp("space") / "tiny.yaml", nas.load_task("digits")
    path.write_text(TINY_SPACE)
    space = space_from(describe_space(str(path), task.input_shape, task.classes))
    return Candidates(Supernet(space), task, known(space, task.example))


def known(space, example):
    bare = nas.load_device("jetson-orin").model_copy(update={"calibration": None, "validity": None, "model": None})
    nets = list(dict.fromkeys([space.smallest, space.largest, *(space.sample(i) for i in range(3))]))
    costs = [nas.trace_cost(space.skeleton(net), example, bare.precision) for net in nets]
    points = [
        Point.of(
            fused(cost, bare.runtime.name), model=net.id, input="1x8x8", source="a test", trust="measured",
            latency_ms=0.1 + cost.flops / 1e6, p95_ms=0.15 + 1.5 * cost.flops / 1e6, energy_mj=1 + cost.flops / 1e5,
            memory_mib=6 + cost.memory_bytes / 2**20, activation_mib=cost.peak_activation_bytes / 2**20,
        )
        for net, cost in zip(nets, costs, strict=True)
    ]  # fmt: skip
    return bare.model_copy(update={"calibration": Calibration(points=points)}).fitted()


def middle(candidates, name):
    """A limit that about half of the nets keep."""
    measure, space = limit_on(candidates, name, 1.0).bounded, candidates.supernet.space
    return (measure(space.smallest) + measure(space.largest)) / 2


def limit_on(candidates, name, most):
    return AppliedLimit(nas.Limit(COSTS[name].metric, most), candidates)


LIMITED = [name for name in COSTS if name not in ("latency_ms", *OF_REQUESTS)]


@pytest.mark.parametrize("name", LIMITED)
def test_every_cost_is_an_objective_and_a_limit_that_the_answer_keeps(candidates, name):
    cost, most = COSTS[name], middle(candidates, name)
    answer = choose([candidates], [nas.Limit(cost.metric, most)], Question((name,), 20, "random"))
    assert list(answer.study.problem.objectives) == ["accuracy", "latency_ms", name]
    assert 0 < len(answer.front) < len(answer.study)
    assert all(limit_on(candidates, name, most).bounded(net) <= most for net in answer.front_architectures)
    assert list(answer.front[name]) == [cost.estimate(candidates, net).value for net in answer.front_architectures]
    assert answer.limits == {name: most}
    assert answer.costs[name].high <= most
    assert answer.validation == answer.front["accuracy"].max()
    assert answer.architecture == answer.front_architectures[0]


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_that_no_net_keeps_is_said_with_the_least(candidates, name):
    metric = COSTS[name].metric
    with pytest.raises(nas.Infeasible, match=rf"keeps {metric.title} at most 1e-09.*The least, of net \w+, is [\d.]+"):
        choose([candidates], [nas.Limit(metric, 1e-9)])


def test_a_limit_alone_is_no_objective_and_its_cost_is_shown(candidates):
    limits = [nas.Limit(ENERGY, middle(candidates, "energy_mj"))]
    answer = choose([candidates], limits, Question((), 12, "random"))
    assert list(answer.study.problem.objectives) == ["accuracy", "latency_ms"]
    assert {"energy_mj", "energy_low_mj", "energy_high_mj", "params", "flops", "memory_mib", "size_mib"} <= {
        *answer.front
    }
    assert answer.bounded_by.startswith("energy; better nets")


def test_objectives_and_limits_hold_on_every_device(candidates):
    there = replace(candidates, device=nas.load_device("t4"), _costs={})
    most = middle(there, "energy_mj")
    limits = [
        nas.Limit(ENERGY, middle(candidates, "energy_mj"), candidates.device.name),
        nas.Limit(PARAMS, 20_000.0, candidates.device.name),
        nas.Limit(LATENCY, 1000.0, "t4"),
        nas.Limit(ENERGY, most, "t4"),
        nas.Limit(PARAMS, 15_000.0, "t4"),
    ]
    answer = choose([candidates, there], limits, Question(("energy_mj", "params"), 20, "random"))
    names = ["accuracy", "latency_ms", "latency_ms on t4", "energy_mj", "energy_mj on t4", "params"]
    assert list(answer.study.problem.objectives) == names
    bounds = [c.name for c in answer.study.problem.constraints]
    assert bounds == ["energy_bound_mj", "params_bound", "latency_bound_ms on t4", "energy_bound_mj on t4"]
    assert (answer.front["params"] <= 15_000).all(), "the tighter of the two"
    assert answer.costs["energy_mj on t4"] == there.energy(answer.architecture)
    assert answer.costs["energy_mj on t4"].high <= most == answer.limits["energy_mj on t4"]
    assert answer.costs["latency_ms on t4"] == there.latency(answer.architecture)
    shown = [c.header for c in terminal.front_table(answer).columns]
    assert shown[3:] == [
        "latency ms",
        "90 % interval",
        "latency ms on t4",
        "energy mJ",
        "energy mJ on t4",
        "params",
        "FLOPs",
    ]
    assert "energy" in why.why(answer)[2]
    assert front_rows(answer.study).columns[-1].header == "params"


def test_the_same_question_is_the_same_study_and_another_objective_is_not(candidates, tmp_path):
    first, again, other = (
        choose([candidates], [], Question(names, 1, "random"), storage=tmp_path / "study.db").study.optuna.study_name
        for names in (("size_mib",), ("size_mib",), ("flops",))
    )
    assert first == again != other


def test_what_is_not_known_of_a_device_or_does_not_exist_is_refused(candidates):
    bare = replace(candidates, device=nas.load_device("local-cpu"), _costs={})
    for name, said in (("energy_mj", "power_w"), ("latency_p95_ms", "`nas profile`")):
        with pytest.raises(nas.UserError, match=said):
            check_estimates(bare, [name])
    with pytest.raises(nas.UserError, match="unknown objective 'energy'; valid: energy_mj"):
        choose([candidates], [], Question(("energy",)))
    with pytest.raises(nas.UserError, match="unknown objective 'energy'; valid: energy_mj"):
        choose([candidates], [nas.Limit(nas.Metric("energy"), 5.0)])
    with pytest.raises(nas.UserError, match="a limit on t4, which is not a target; the targets are jetson-orin"):
        choose([candidates], [nas.Limit(LATENCY, 5.0, "t4")])


# Known answers


def alone(device, width=96):
    """Candidates of which each is the same net: 4 square layers."""

    class OneNet:
        smallest = "a"

        def skeleton(self, _):
            return nn.Sequential(*[nn.Linear(width, width) for _ in range(4)])

    return Candidates(
        SimpleNamespace(space=OneNet()), SimpleNamespace(example_of=lambda rows: torch.zeros(rows, width)), device
    )


@pytest.mark.parametrize(("precision", "width"), [("fp32", 4), ("fp16", 2), ("int8", 1)])
def test_the_size_is_parameters_times_the_bytes_of_the_precision(precision, width):
    found = alone(nas.load_device("jetson-orin").model_copy(update={"precision": precision, "calibration": None}))
    params = 4 * (96 * 96 + 96)
    assert COSTS["params"].estimate(found, "a") == nas.Estimate.counted(PARAMS, params)
    assert COSTS["size_mib"].estimate(found, "a").value == params * width / 2**20


def test_energy_by_the_datasheet_is_power_times_latency():
    found = alone(nas.load_device("jetson-orin"))
    watts, time, energy = found.device.spec.power_w.value, found.latency("a"), COSTS["energy_mj"].estimate(found, "a")
    assert energy.value == pytest.approx(0.7 * watts * time.value)
    assert energy.high == pytest.approx(watts * time.high)
    assert (energy.source, energy.tier) == ("analytic", "D")


@pytest.mark.parametrize(
    ("name", "text", "value", "told"),
    [
        ("energy_mj", "20mJ", 20, "20 mJ"),
        ("energy_mj", "0.5 j", 500, "500 mJ"),
        ("energy_mj", "7uJ", 0.007, "0.007 mJ"),
        ("size_mib", "512KiB", 0.5, "0.5 MiB"),
        ("latency_p95_ms", "800us", 0.8, "0.8 ms"),
        ("params", "2M", 2e6, "2 M"),
    ],
)
def test_limits_are_read_and_printed_in_units(name, text, value, told):
    assert parse_limit(COSTS[name].metric, text).upper == pytest.approx(value)
    assert COSTS[name].metric.text(value) == told


@pytest.mark.parametrize("cost", TABLE, ids=lambda cost: cost.metric.name)
def test_the_example_of_a_limit_can_be_read_and_its_option_exists(cost):
    example = EXAMPLES[cost.metric.unit]
    assert parse_limit(cost.metric, example).upper > 0
    assert cost.option in nas_command("search", "--help").out
    with pytest.raises(nas.UserError, match=f"{cost.metric.title} '5parsecs'.* as in {example}"):
        parse_limit(cost.metric, "5parsecs")


def test_a_limit_is_given_once_for_all_targets_or_once_for_each():
    found = parse_limits(["t4", "iphone-12"], {"energy_mj": ["20mJ"], "latency_ms": ["60%", "2ms"]})
    assert found == [
        nas.Limit(LATENCY, 0.6, "t4", relative=True),
        nas.Limit(LATENCY, 2.0, "iphone-12"),
        nas.Limit(ENERGY, 20.0),
    ]


@pytest.mark.parametrize("name", ["energy_mj", "params"])
def test_a_relative_limit_is_a_share_of_what_the_largest_net_has(candidates, name):
    limit = parse_limit(COSTS[name].metric, "75%")
    (bound,) = applied([candidates], [limit])
    largest = COSTS[name].estimate(candidates, candidates.supernet.space.largest)
    assert bound.upper == pytest.approx(0.75 * largest.value)
    assert bound.bounded(candidates.supernet.space.largest) == largest.value


# On a machine at hand


@pytest.mark.parametrize(("p95_ms", "chosen"), [(1.5, 0), (3.0, 1), (None, 0)])
def test_a_measured_percentile_decides(candidates, monkeypatch, p95_ms, chosen):
    here = replace(candidates, device=candidates.device.model_copy(update={"measurable": True}), _costs={})
    nets = [here.supernet.space.largest, here.supernet.space.smallest]
    slow = Measurement(1.0, p95_ms or 99.0, 0.0, 9)
    monkeypatch.setattr(Candidates, "measure", lambda *_: [slow, Measurement(1.0, 1.9, 0.0, 9)])
    limits = [nas.Limit(LATENCY, 1.1), *([] if p95_ms is None else [nas.Limit(P95, 2.0)])]
    verdict = verify(here, nets, applied([here], limits))
    assert verdict.architecture == nets[chosen]
    assert [note.count("95th percentile of its calls; it took 3 ms") for note in verdict.notes] == [1] * chosen


def test_on_a_machine_at_hand_the_mean_is_bounded_and_the_measurement_is_told(candidates, monkeypatch):
    here = replace(candidates, device=candidates.device.model_copy(update={"measurable": True}), _costs={})
    most = middle(here, "latency_p95_ms")

    def timed(self, nets, _):
        return [Measurement(self.latency(n).value, 0.9 * self.p95(n).value, 0.0, 9) for n in nets]

    monkeypatch.setattr(Candidates, "measure", timed)
    answer = choose([here], [nas.Limit(P95, most)], Question((), 12, "random"))
    found = answer.costs["latency_p95_ms"]
    assert (found.source, answer.limits) == ("measured", {"latency_p95_ms": most})
    assert found.value <= most
    assert found.value == pytest.approx(0.9 * here.p95(answer.architecture).value)
    assert all(here.p95(net).value <= most for net in answer.front_architectures)


def test_the_latency_as_a_stated_objective_is_the_objective_that_it_is_anyway(candidates):
    answer = choose([candidates], [], Question(("latency_ms",), 8, "random"))
    assert list(answer.study.problem.objectives) == ["accuracy", "latency_ms"]


def perplexity(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets).exp().item()


@pytest.mark.parametrize("better", [None, "min"])
def test_a_quality_of_which_less_is_better_is_made_small(candidates, better):
    task = replace(candidates.task, metric=perplexity, metric_name="perplexity", better=better)
    answer = choose([Candidates(candidates.supernet, task, candidates.device)], [], Question((), 20, "random"))
    known = [e.metrics["perplexity"] for e in answer.study.evaluations]
    assert answer.validation == pytest.approx(min(known))
    assert answer.front["perplexity"].is_monotonic_increasing
    assert answer.bounded_by == "nothing: no net that was evaluated is better"
    assert any("less is better" in note for note in answer.notes) is (better is None)
    assert "%" not in answer.text
    place = why.why(answer)[0]
    assert "none of 20 evaluated nets that keep every limit has less" in place
