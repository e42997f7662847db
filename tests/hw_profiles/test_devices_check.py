"""`check` finds what was put in wrongly, and the error of a profile is that of nets left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nas.hw_profiles.check import bound_ms, check, check_all
from nas.hw_profiles.device import Device, default_model
from nas.hw_profiles.facts import compare
from nas.hw_profiles.holdout import error_of, factor, left_out
from nas.hw_profiles.points import Error

SIZES = [1, 2, 4, 8, 16, 32]


def net(size: float, **change: Any) -> dict[str, Any]:
    """On a device of 0.1 TFLOP/s and 1 us a launch: 1 ms for each size (100 MFLOPs), and its launches."""
    rows = [["matmul", 10, 100 * size, 0.1, 0.1]]
    words = {
        "model": f"{'abcdef'[SIZES.index(size) % 3]}-{size}",
        "input": "224",
        "source": "a paper",
        "trust": "paper",
    }
    return words | {"latency_ms": size + 0.01, "params_m": size, "operators": rows} | change


def profile(*nets: dict[str, Any], **change: Any) -> dict[str, Any]:
    value = {"kind": "vendor", "source": "data sheet"}
    spec = {"tflops": {"fp32": value | {"value": 0.2}}, "bandwidth_gb_s": value | {"value": 10}}
    base = {"name": "board", "title": "A board", "unit": "CPU", "kind": "cpu", "precision": "fp32", "spec": spec}
    points = {"calibration": {"points": list(nets)}} if nets else {}
    return base | {"runtime": {"name": "ncnn", "version": "1"}} | points | change


def device(*nets: dict[str, Any], **change: Any) -> Device:
    return Device.model_validate(profile(*nets, **change))


GOOD = [net(size) for size in SIZES]


def test_a_sound_profile_has_no_findings() -> None:
    assert check(device(*GOOD)) == []


def test_what_follows_no_roofline_has_a_wide_interval() -> None:
    odd = device(*(net(size, latency_ms=float(np.exp(i % 2 * 3)) + 100) for i, size in enumerate(SIZES)))
    straight = device(*GOOD)
    assert factor(odd) > factor(straight)


@pytest.mark.parametrize(
    ("nets", "change", "words"),
    [
        ([*GOOD, net(1)], {}, "point 'a-1' at 224 occurs 2 times: keep one"),
        ([*GOOD[1:], net(1, latency_ms=0.49)], {}, r"0.49 ms beats the roofline bound of 0.5 ms"),
        ([*GOOD[1:], net(1, gmacs=0.5)], {}, "operators are 0.05 GMACs, 0.5 are stated"),
        ([], {}, "no note says 'Datasheet only'"),
        (GOOD, {"supports": {"operators": ["convolution"]}}, "by its file, it does not run: matmul"),
        (GOOD, {"supports": {"precisions": ["int8"]}}, "its precision fp32 is not among"),
        (GOOD, {"validity": {"families": ["a"], "gflops": [1, 2]}}, "is not that of its points"),
        (GOOD, {"error": {"tier": "B", "leave_one_out": 0.5, "quantile_90": 2}}, "it states tier B"),
        (GOOD, {"error": {"tier": "C", "leave_one_out": 0.5, "quantile_90": 0.1}}, "it states quantile_90 0.1"),
    ],
)
def test_findings(nets: list[dict[str, Any]], change: dict[str, Any], words: str) -> None:
    (finding,) = check(device(*nets, **change))
    assert words in finding
    assert "\n" not in finding


def test_a_point_that_beats_the_bound_may_be_kept_and_is_not_fitted() -> None:
    flagged = device(*GOOD, net(1, input="256", latency_ms=0.1, implausible="a published typing error"))
    assert check(flagged) == []
    assert default_model(flagged) == default_model(device(*GOOD))


def test_weights_that_the_chip_cannot_hold_cross_the_bus() -> None:
    value = {"kind": "vendor", "source": "data sheet"}
    spec = {"bandwidth_gb_s": value | {"value": 10}, "on_chip_mb": value | {"value": 4}}
    chip = device(*GOOD, spec=spec)
    assert bound_ms(chip, chip.nets[0]) == 0, "1 M weights of 4 bytes fit"
    assert bound_ms(chip, chip.nets[3]) == pytest.approx(2.8), "(32 - 4) MB at 10 GB/s"


def test_an_interval_that_misses_its_own_points_is_found() -> None:
    fast = default_model(device(*(net(size, latency_ms=size / 0.9) for size in SIZES)))
    slow = device(*(net(size, latency_ms=20.0 * size) for size in SIZES)).with_model(fast)
    assert any("holds 0 of its own 6 points" in finding for finding in check(slow))


def test_files_are_read_and_named(tmp_path: Path) -> None:
    good, same, bad = tmp_path / "good.yaml", tmp_path / "same.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(profile(*GOOD)))
    same.write_text(yaml.safe_dump(profile(*GOOD, name="other")))
    bad.write_text(yaml.safe_dump(profile(*GOOD, runtime={"name": "ncnn"})))
    found = check_all([good, same, bad, "jetson-orim"])
    assert found[str(good)] == []
    assert found[str(same)] == [f"it is of the same device, runtime, precision and modes as {good}"]
    assert "runtime.version" in found[str(bad)][0]
    assert "unknown device 'jetson-orim'" in found["jetson-orim"][0]


# Error


def test_a_net_left_out_is_predicted_from_the_others() -> None:
    """The largest net is far above a straight line: with it, its own prediction would be nearer."""
    odd = device(*GOOD[:-1], net(32, latency_ms=300.0))
    times = left_out(odd)
    fitted = odd.with_model(default_model(odd))
    assert times[-1].value < fitted.of_net(odd.nets[-1]).value
    assert times[-1].value == pytest.approx(32, rel=0.3)


def test_error_of_exact_points_is_small_and_grows_with_the_noise() -> None:
    rough = device(*(net(s, latency_ms=s * (1.3 if i % 2 else 0.7)) for i, s in enumerate(SIZES)))
    exact, noisy = error_of(device(*GOOD)), error_of(rough)
    assert exact.leave_one_out is not None
    assert noisy.leave_one_out is not None
    assert exact.leave_one_out < 0.1 < noisy.leave_one_out
    assert exact.leave_family_out is not None
    assert exact.quantile_90 < 1.15 < noisy.quantile_90


def test_one_family_has_no_error_of_families() -> None:
    assert error_of(device(*(net(size, family="vit") for size in SIZES))).leave_family_out is None


def test_a_datasheet_has_the_error_of_its_interval() -> None:
    error = error_of(device())
    assert (error.tier, error.leave_one_out) == ("D", None)
    assert error.quantile_90 >= 2


def test_a_stated_error_is_taken_as_it_is() -> None:
    stated = Error(tier="B", leave_one_out=0.03, quantile_90=1.05)
    assert error_of(device(*GOOD).model_copy(update={"error": stated})) == stated


def test_noise_is_measured_or_that_of_values_that_disagree() -> None:
    conflict = [{"value": 1.2, "source": "another paper"}]
    noisy = device(net(1, latency_ms=1.0, conflicts=conflict), net(2, noise=0.02), net(4)).calibration
    quiet = device(*GOOD).calibration
    assert noisy is not None
    assert quiet is not None
    assert noisy.noise == pytest.approx((0.1 + 0.02) / 2)
    assert quiet.noise is None


def test_compared_is_sorted_and_in_the_unit_of_the_points() -> None:
    found = compare(device(*reversed(GOOD)))
    assert [c.published for c in found] == [size + 0.01 for size in SIZES]
    assert all(c.low <= c.predicted <= c.high for c in found)
    rates = [{k: v for k, v in net(s).items() if k != "latency_ms"} | {"throughput_per_s": 1e3 / s} for s in SIZES]
    pipelined = device(batch_mode="throughput", calibration={"rates": rates})
    found = compare(pipelined)
    assert [c.published for c in found] == sorted(1e3 / s for s in SIZES)
    assert all(c.low <= c.predicted <= c.high for c in found)
