"""The public contracts catch what is broken, and name it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas import testing
from nas.hw_profiles import load_device
from nas.predictors import load_method
from nas.search.draws import unseen
from nas.search_space.operators import base
from nas.testing import algorithms, devices, operators, predictors


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    base.discover()
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))


class Sound(nn.Module):
    """A feed-forward network; the broken ones differ in one thing each."""

    def __init__(self, width, inner):
        super().__init__()
        self.squeeze, self.widen = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x, context):
        assert context is not None
        return self.widen(self.squeeze(x).relu())


def register(cls, **capabilities):
    nas.register.operator("ffn", "tried", genes={"inner": (8, 16)}, **{"causal": True, **capabilities})(cls)


class NoDocstring(Sound):
    __doc__ = None


class OtherNames(Sound):
    """forward has other parameters."""

    def forward(self, x, c):
        return super().forward(x, c)


class OnTheCpu(Sound):
    """A parameter is built on the CPU whatever the default device is."""

    def __init__(self, width, inner):
        super().__init__(width, inner)
        self.scale = nn.Parameter(torch.ones(width, device="cpu"))

    def forward(self, x, context):
        return super().forward(x, context) * self.scale


class Halved(Sound):
    """Half of the tokens are lost."""

    def forward(self, x, context):
        return super().forward(x, context)[:, ::2]


class NotFinite(Sound):
    """Divides by zero."""

    def forward(self, x, context):
        return super().forward(x, context) / 0


class Looks(Sound):
    """Each token sees all, but the flag says causal."""

    def forward(self, x, context):
        return super().forward(x + x.mean(1, keepdim=True), context)


class Grows(Sound):
    """A parameter is larger where the net is smaller."""

    def __init__(self, width, inner):
        super().__init__(width, inner)
        self.shift = nn.Parameter(torch.zeros(64 - inner))

    def forward(self, x, context):
        return super().forward(x, context) + self.shift.sum()


class Idle(Sound):
    """A parameter does nothing."""

    def __init__(self, width, inner):
        super().__init__(width, inner)
        self.spare = nn.Parameter(torch.zeros(width))


class Mixed(Sound):
    """Rows of a batch see each other."""

    def forward(self, x, context):
        return super().forward(x + x.mean(0, keepdim=True), context)


class Random(Sound):
    """Draws in evaluation mode."""

    def forward(self, x, context):
        return super().forward(x + torch.randn_like(x), context)


class InPlace(Sound):
    """Changes its input."""

    def forward(self, x, context):
        return super().forward(x.add_(1), context)


BROKEN = {
    NoDocstring: ("signature", {}),
    OtherNames: ("signature", {}),
    OnTheCpu: ("builds_on_meta_and_real_with_the_same_shapes", {}),
    Halved: ("output_shape", {}),
    NotFinite: ("accepts_every_layout_that_it_claims", {}),
    Looks: ("the_causal_flag_is_honest", {}),
    Sound: ("the_causal_flag_is_honest", {"causal": False}),
    Grows: ("the_small_one_is_a_corner_of_the_large_one", {}),
    Idle: ("gradient_reaches_every_parameter", {}),
    Mixed: ("a_row_does_not_depend_on_the_others", {}),
    Random: ("evaluation_is_deterministic_and_leaves_its_input_alone", {}),
    InPlace: ("evaluation_is_deterministic_and_leaves_its_input_alone", {}),
}


def test_a_sound_operator_passes():
    register(Sound, onnx=False)  # the exporter takes seconds
    testing.check_operator("ffn", "tried")


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_operator_is_caught(cls):
    name, capabilities = BROKEN[cls]
    register(cls, **capabilities)
    with pytest.raises(AssertionError):
        testing.operator_checks("ffn", "tried")[name]()


def test_the_first_failing_check_is_named():
    register(Idle)
    with pytest.raises(AssertionError, match="gradient_reaches_every_parameter: spare has no gradient"):
        testing.check_operator("ffn", "tried")


@dataclass(frozen=True)
class Method:
    """A method of regression that is wrong in the ways of its fields."""

    scale: float = 1.0
    deviation: float = 1.0
    noisy: bool = False
    name: ClassVar[str] = "tried"
    scales: ClassVar[frozenset[str]] = frozenset({"log"})
    knows_distance: ClassVar[bool] = True

    def fit(self, table, target):
        return Fitted(self, load_method("ridge").fit(table, target), np.random.default_rng().normal() * self.noisy)


@dataclass(frozen=True)
class Fitted:
    method: Method
    inner: object
    shift: float

    def predict(self, table):
        mean, std = self.inner.predict(table)
        return self.method.scale * mean + self.shift, np.full(len(std), self.method.deviation)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (object(), "it_is_a_method"),
        (Method(scale=0.0), "genes_alone_say_more_than_the_mean"),
        (Method(scale=2.0), "with_a_cost_it_beats_the_parameter_count"),
        (Method(deviation=np.nan), "with_a_cost_it_beats_the_parameter_count"),
        (Method(noisy=True), "fits_are_deterministic"),
        (Method(scale=0.5), "the_unit_does_not_matter"),
        (Method(deviation=0.0), "few_points_are_enough_to_say_something"),
        (Method(), "uncertainty_grows_away_from_the_data"),
    ],
)
def test_a_broken_predictor_is_caught(method, name):
    function, _ = predictors.SUITE.functions[name]
    with pytest.raises(AssertionError):
        function(method)


@dataclass(frozen=True)
class Asks:
    """Random search that is wrong in the ways of its fields."""

    twice: bool = False
    few: bool = False
    unseeded: bool = False
    stops: bool = False
    foreign: bool = False
    batch: int = 4
    name: str = "tried"

    def ask(self, space, evaluations, n, rng):
        seen = {e.architecture for e in evaluations}
        rng = np.random.default_rng() if self.unseeded else rng
        asked = unseen(space, seen, n, rng)
        if self.twice and seen:
            return [*asked[: n - 1], evaluations[0].architecture]
        if self.foreign:
            return [nas.Architecture({**space.largest, "heads": 99}), *asked]
        return asked[: n // 2] if self.few else [] if self.stops and len(seen) > 20 else asked


def test_a_sound_algorithm_passes():
    testing.check_algorithm(Asks())


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (object(), "it_is_an_algorithm"),
        (Asks(twice=True), "asking_is_pure"),
        (Asks(few=True), "survives_failures_and_infeasible_architectures"),
        (Asks(unseeded=True), "same_seed_same_search_and_another_seed_another"),
        (Asks(unseeded=True), "asking_is_pure"),
        (Asks(unseeded=True), "a_stopped_search_goes_on_as_if_it_had_not_stopped"),
        (Asks(stops=True), "asks_only_for_members_and_never_twice_until_nothing_is_left"),
        (Asks(stops=True), "any_number_of_objectives_over_conditional_genes"),
        (Asks(foreign=True), "asks_only_for_members_and_never_twice_until_nothing_is_left"),
    ],
)
def test_a_broken_algorithm_is_caught(algorithm, name):
    function, _ = algorithms.SUITE.functions[name]
    with pytest.raises(AssertionError):
        function(algorithm)


def test_a_broken_device_is_caught():
    device = load_device("raspberry-pi-5")
    testing.check_device(device)
    point = device.calibration.points[0].model_copy(update={"latency_ms": 1e6, "source": "todo"})
    points = [point, *device.calibration.points[1:]]
    broken = device.model_copy(update={"calibration": device.calibration.model_copy(update={"points": points})})
    for name in ("every_fact_has_a_source", "the_profile_is_sound"):
        with pytest.raises(AssertionError):
            testing.device_checks(broken)[name]()
    unfounded = device.model_copy(update={"calibration": None, "validity": None})
    with pytest.raises(AssertionError, match="no note says `Datasheet only`"):
        devices.SUITE.functions["without_points_it_says_datasheet_only"][0](unfounded)


def test_every_check_of_an_operator_can_be_listed():
    assert set(testing.operator_checks("mixer", "softmax")) < set(operators.SUITE.functions)
