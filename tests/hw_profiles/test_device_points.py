"""Points of a calibration: what they inherit, what they keep, and the cost that they stand for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.hw_profiles.cost import KINDS, Cost, OperatorCost
from nas.hw_profiles.points import Calibration, Point, Rate, Validity

numbers = st.floats(0, 1e12, allow_nan=False, allow_subnormal=False)
operators = st.builds(
    OperatorCost, st.just("x"), st.sampled_from(KINDS), numbers, numbers, numbers, st.integers(1, 1000)
)


def point(**fields: Any) -> dict[str, Any]:
    common = {"model": "vit_tiny", "input": "224", "source": "a paper", "trust": "paper", "latency_ms": 2.0}
    return common | {"operators": [["matmul", 4, 100.0, 2.0, 1.0]]} | fields


def calibration(*points: dict[str, Any], **fields: Any) -> Calibration:
    return Calibration.model_validate({"points": list(points)} | fields)


@given(rows=st.lists(operators, min_size=1, max_size=20), precision=st.sampled_from(["fp32", "fp16", "int8"]))
def test_a_point_keeps_the_cost_that_it_was_made_of(rows: list[OperatorCost], precision: str) -> None:
    cost = Cost.from_operators([*rows, *rows], params=12_345_678, precision=precision)
    made = Point.of(cost, model="net", input="8", source="here", trust="measured", latency_ms=1.0)
    again = made.cost(precision)
    assert len(made.operators) <= len(rows), "identical kernels are one row"
    assert (again.kernels, again.params) == (cost.kernels, cost.params)
    assert again.flops == pytest.approx(cost.flops, rel=1e-6)
    assert set(again.by_kind()) == set(cost.by_kind())
    for kind, total in cost.by_kind().items():
        assert again.by_kind()[kind].bytes_read == pytest.approx(total.bytes_read, rel=1e-6)
        assert again.by_kind()[kind].bytes_written == pytest.approx(total.bytes_written, rel=1e-6)


def test_a_point_inherits_what_it_does_not_state() -> None:
    own = point(statistic="p50")
    del own["source"]
    found = calibration(own, point(), point(), source="the table", statistic="mean", scope="whole net").points
    assert [p.source for p in found] == ["the table", "a paper", "a paper"]
    assert [p.statistic for p in found] == ["p50", "mean", "mean"]
    assert {p.scope for p in found} == {"whole net"}


def test_points_and_rates_are_never_mixed() -> None:
    rate = {k: v for k, v in point(throughput_per_s=500).items() if k != "latency_ms"}
    with pytest.raises(ValidationError, match="never mixed"):
        Calibration.model_validate({"points": [point()] * 3, "rates": [rate] * 3})
    with pytest.raises(ValidationError, match="3 points or more"):
        calibration(point(), point())
    assert Rate.model_validate(rate | {"batch": 8}).period_ms == 16


@pytest.mark.parametrize(
    ("number", "trust", "tier"),
    [(99, "measured", "B"), (100, "measured", "A"), (4, "measured", "C"), (100, "vendor", "C"), (5, "measured", "B")],
)
def test_tiers(number: int, trust: str, tier: str) -> None:
    assert calibration(*[point(trust=trust)] * number).tier == tier


def test_one_published_point_makes_the_whole_published() -> None:
    assert calibration(*[point(trust="measured")] * 20, point(trust="paper")).tier == "C"


def test_what_is_not_believed_is_kept_and_not_fitted() -> None:
    found = calibration(point(), point(), point(), point(implausible="beats the peak"))
    assert (len(found.nets), len(found.fitted)) == (4, 3)


@pytest.mark.parametrize(
    ("model", "family", "group"),
    [("ViT-B_16", "", "vit"), ("deit3_small", "", "deit"), ("42", "", "42"), ("a1", "b", "b")],
)
def test_family(model: str, family: str, group: str) -> None:
    assert Point.model_validate(point(model=model if len(model) > 1 else "xx", family=family)).group == group


def test_validity() -> None:
    found = calibration(
        *(point(params_m=p, operators=[["matmul", 1, m, 1, 1]]) for p, m in ((1, 100), (2, 300), (3, 900)))
    )
    validity = Validity.of(found)
    assert validity == Validity(families=["vit"], gflops=(0.1, 0.9), params_m=(1, 3))
    inside, wide, heavy = (Cost.from_operators([OperatorCost("x", "matmul", f, 1, 1)], params=p)
                           for f, p in ((2e8, 2_000_000), (2e8, 5_000_000), (2e9, 2_000_000)))  # fmt: skip
    assert [validity.holds(cost) for cost in (inside, wide, heavy)] == [True, False, False]
