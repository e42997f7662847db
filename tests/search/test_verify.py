"""A machine that changes its pace while nets are measured: nets are compared at one pace, and the table says all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from nas_command import TINY_SPACE

import nas
from nas.errors import Infeasible
from nas.hw_profiles import Measurement
from nas.search.candidates import Candidates
from nas.search.limits import AppliedLimit
from nas.search.pipeline import choose
from nas.search.question import Question
from nas.search.reporting import terminal
from nas.search.verify import Verdict, verify
from nas.search_space.locate import describe_space, space_from
from nas.supernet.store import Supernet
from nas.values import LATENCY, Estimate

SPACE = nas.GeneSpace({"size": list(range(1, 41))})
NETS = [nas.Architecture({"size": size}) for size in range(40, 0, -1)]
LARGEST = 0.2


@dataclass
class Machine:
    """What `verify` asks of candidates: net n takes n / 40 of 0.2 ms, at the pace of each call of `measure`.

    paces: of the calls, in turn; the last one stays. odd: by size, how far a net is from its prediction.
    """

    paces: Sequence[float] = (1.0,)
    odd: Any = None
    noise: float = 0.001
    calls: int = 0

    def __post_init__(self) -> None:
        self.device = SimpleNamespace(measurable=True, model=None)
        self.supernet = SimpleNamespace(space=SPACE)

    def latency(self, net: nas.Architecture) -> Estimate:
        ms = LARGEST * net["size"] / 40
        return Estimate(LATENCY, ms, 0.9 * ms, 1.1 * ms, "calibrated", "B")

    p95 = latency

    def measure(self, nets: Sequence[nas.Architecture], _: float) -> list[Measurement]:
        pace = self.paces[min(self.calls, len(self.paces) - 1)]
        self.calls += 1
        taken = [pace * self.latency(n).value * (self.odd or {}).get(n["size"], 1.0) for n in nets]
        return [Measurement(ms, 1.2 * ms, self.noise, 50) for ms in taken]


def verified(
    machine: Machine, ranked: Sequence[nas.Architecture] = NETS[17:], share: float | None = None, **others: Any
) -> Verdict:
    limit = nas.Limit(LATENCY, share or 0.6 * LARGEST, relative=share is not None)
    return verify(machine, ranked, [AppliedLimit(limit, machine)], **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("pace", [1.8, 1.0, 0.55])
@pytest.mark.parametrize("share", [0.6, None])
def test_a_machine_of_another_pace_than_predicted_does_not_make_better_nets_fall_out(
    pace: float, share: float | None
) -> None:
    found = verified(Machine((pace,)), share=share)
    assert (found.architecture, found.fallen) == (NETS[17], {})
    assert found.latency.value == pytest.approx(LARGEST * 23 / 40)
    assert sum("changed its pace" in note for note in found.notes) == (pace != 1)
    assert len(found.notes) <= 1
    if pace != 1:
        assert f"{pace:.3g} times the {LARGEST} ms" in found.notes[0]
        assert found.latency.high > 1.05 * found.latency.value  # ratios of nets are not the same at another pace


@pytest.mark.parametrize("share", [0.6, None])
def test_a_net_that_is_timed_in_a_fast_moment_does_not_win(share: float | None) -> None:
    """The nets of the first groups are too slow by themselves; those of the last one are timed on a fast machine."""
    odd = dict.fromkeys(range(17, 41), 1.5)
    odd[40] = 1.0
    found = verified(Machine((1.0, 1.0, 0.5, 1.8), odd), share=share)
    assert found.architecture["size"] == 16
    assert set(found.fallen) == {net.id for net in NETS[17:24]}
    assert "7 nets that would come before the chosen one fell out" in " ".join(found.notes)
    assert "They took 1.5 times the predicted latency." in " ".join(found.notes)


def test_measurements_of_several_groups_are_stated_at_one_pace() -> None:
    odd = dict.fromkeys(range(10, 24), 2.0)
    machine = Machine((1.0, 1.8, 0.7, 1.3), odd)
    found = verified(machine)
    assert machine.calls > 2
    for net in NETS[17:]:
        if net.id in found.measured:
            truth = machine.latency(net).value * odd.get(net["size"], 1.0)
            assert found.measured[net.id].median_ms == pytest.approx(truth)
    assert found.measured[found.architecture.id].median_ms <= 0.12


def test_a_budget_in_per_cent_is_a_share_of_what_the_largest_net_takes_when_measured() -> None:
    odd = {40: 1.25}  # it was predicted too fast, and so was the budget in milliseconds
    found = verified(Machine((1.0,), odd), NETS[11:], share=0.6)
    assert found.bound_ms == pytest.approx(0.6 * 1.25 * LARGEST)
    assert found.architecture == NETS[11]
    assert verified(Machine((1.0,), odd), NETS[11:]).architecture["size"] == 23


@pytest.mark.parametrize("noisy", [True, False])
def test_no_net_of_the_table_is_better_and_faster_than_the_chosen_one(noisy: bool) -> None:
    losses = {net.id: -net["size"] // 4 for net in NETS}
    machine = Machine((1.0,), {24: 0.999, 23: 1.02, 22: 1.04})
    if noisy:
        quiet = machine.measure

        def measure(nets: Sequence[nas.Architecture], seconds: float) -> list[Measurement]:
            return [replace(m, noise=0.2 * (n["size"] % 2)) for n, m in zip(nets, quiet(nets, seconds), strict=True)]

        machine.measure = measure  # type: ignore[method-assign]
    ranked = sorted(NETS[15:], key=lambda net: (losses[net.id], net["size"]))
    found = verified(machine, ranked, losses=losses)
    ms = {i: m.median_ms for i, m in found.measured.items()}
    own = found.architecture.id
    table = {net.id: (losses[net.id], ms.get(net.id, machine.latency(net).value)) for net in ranked}
    dominating = [i for i, (loss, t) in table.items() if loss <= table[own][0] and t <= table[own][1] and i != own]
    assert dominating == []
    assert ms[own] <= 0.6 * LARGEST


def test_where_every_net_falls_out_the_fastest_is_named() -> None:
    odd = dict.fromkeys(range(1, 40), 2.0)
    with pytest.raises(Infeasible, match=r"the fastest, \w+, was predicted at .* too slow .* 2 times the predicted"):
        verified(Machine((1.0,), odd), NETS[17:19])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Candidates:
    path, task = tmp_path_factory.mktemp("space") / "tiny.yaml", nas.load_task("digits")
    path.write_text(TINY_SPACE)
    space = space_from(describe_space(str(path), task.input_shape, task.classes))
    device = nas.load_device("raspberry-pi-5").model_copy(update={"measurable": True})
    return Candidates(Supernet(space), task, device)


@pytest.mark.parametrize("pace", [1.0, 1.8])
def test_the_front_shows_what_was_measured_who_fell_out_and_the_chosen_net(
    here: Candidates, monkeypatch: pytest.MonkeyPatch, pace: float
) -> None:
    """Nets that are predicted near the bound are really slower; the answer may not be on the front as predicted."""
    largest = here.latency(here.supernet.space.largest).value
    slow = {a for a in here.supernet.space.enumerate() if 0.4 * largest < here.latency(a).value < largest}

    def timed(self: Candidates, nets: Sequence[nas.Architecture], _: float) -> list[Measurement]:
        ms = [pace * self.latency(n).value * (2.0 if n in slow else 1.0) for n in nets]
        return [Measurement(m, m, 0.0, 9) for m in ms]

    monkeypatch.setattr(Candidates, "measure", timed)
    answer = choose([here], [nas.Limit(LATENCY, 0.6, relative=True)], Question((), 30, "random"))
    chosen = answer.front[answer.front["id"] == answer.architecture.id]
    assert chosen["verdict"].tolist() == ["chosen"]
    assert chosen["measured_ms"].iloc[0] == pytest.approx(answer.latency.value)
    assert answer.latency.value <= 0.6 * largest
    fallen = answer.front[answer.front["verdict"].str.contains("too slow")]
    assert (fallen["measured_ms"] > answer.bound_ms).all()
    assert set(fallen["id"]) == set(answer.fallen) & set(answer.front["id"])
    assert len(fallen) > 0
    table = terminal.front_table(answer)
    assert {"measured ms", "verdict"} <= {str(column.header) for column in table.columns}
    known = pd.Series(answer.front["measured_ms"].fillna(answer.front["latency_ms"]).to_numpy())
    worse = (answer.front["accuracy"] >= answer.validation) & (known <= answer.latency.value)
    assert answer.front[worse]["id"].tolist() == [answer.architecture.id]
    assert answer.bounded_by.startswith(("latency", "nothing"))
    assert "latency as measured" in answer.bounded_by or not answer.fallen
