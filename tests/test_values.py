"""Metrics, estimates and limits: how they are written, and which way is better."""

import pytest

import nas
from nas.values import ENERGY, FLOPS, LATENCY, PARAMS

ACCURACY = nas.Metric("accuracy", better="max", style="share")
PERPLEXITY = nas.Metric("perplexity")


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        (ACCURACY, 0.96123, "96.12%"),
        (PERPLEXITY, 31.2718, "31.27"),
        (LATENCY, 4.5, "4.5 ms"),
        (LATENCY, 0.012345, "0.0123 ms"),
        (PARAMS, 1234567, "1.23 M"),
        (PARAMS, 999, "999"),
        (PARAMS, 999_700, "1 M"),
        (PARAMS, 999_400, "999 K"),
        (LATENCY, 999.7, "1000 ms"),
        (LATENCY, 12345.6, "12346 ms"),
        (PARAMS, 0, "0"),
        (nas.Metric("traffic", "B", style="count"), 2500.0, "2.5 KB"),
    ],
)
def test_a_value_is_written_as_its_metric_says(metric, value, text):
    assert metric.text(value) == text


def test_the_sign_turns_a_value_into_a_loss():
    assert (ACCURACY.sign, PERPLEXITY.sign, LATENCY.sign) == (-1, 1, 1)
    assert ACCURACY.sign * 0.9 < ACCURACY.sign * 0.8
    assert PERPLEXITY.sign * 20 < PERPLEXITY.sign * 30


def test_labels_have_the_unit():
    assert (ENERGY.label, FLOPS.label, PERPLEXITY.label) == ("energy mJ", "FLOPs", "perplexity")


def test_an_estimate_states_its_interval_and_source_unless_it_is_exact():
    found = nas.Estimate(LATENCY, 4.5, 4.1, 5.0, "calibrated", "B")
    assert found.text == "4.5 ms, 4.1 to 5 (calibrated, tier B)"
    assert nas.Estimate(LATENCY, 4.5, 4.1, 5.0, "measured").text == "4.5 ms, 4.1 to 5 (measured)"
    exact = nas.Estimate.counted(PARAMS, 2e6)
    assert exact == nas.Estimate(PARAMS, 2e6, 2e6, 2e6, "counted")
    assert exact.text == "2 M"


def test_a_limit_says_what_it_limits_and_where():
    assert nas.Limit(LATENCY, 5.0, "jetson-orin").text == "latency at most 5 ms on jetson-orin"
    assert nas.Limit(PARAMS, 2e6).text == "parameters at most 2 M"
    assert nas.Limit(LATENCY, 0.6, "t4", relative=True).text == "latency at most 60% of the largest net's on t4"


def test_values_are_frozen():
    for value, name in (
        (LATENCY, "unit"),
        (nas.Estimate.counted(PARAMS, 1.0), "value"),
        (nas.Limit(PARAMS, 1.0), "upper"),
    ):
        with pytest.raises(AttributeError):
            setattr(value, name, 0)


def test_the_former_names_of_a_latency_still_answer_and_say_the_new_ones() -> None:
    time = nas.Estimate(LATENCY, 2.0, 1.0, 4.0, "calibrated", "C")
    for old, new in (("mean_ms", "value"), ("low_ms", "low"), ("high_ms", "high")):
        with pytest.warns(DeprecationWarning, match=f"{old} of an estimate is deprecated; use {new}"):
            assert getattr(time, old) == getattr(time, new)
