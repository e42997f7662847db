"""One contract for every device file, and what users' own files may get wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from nas.errors import UserError
from nas.hw_profiles.benchmark import local_rates
from nas.hw_profiles.cost import Cost, OperatorCost, trace_cost
from nas.hw_profiles.device import DEVICES, Device, Point, Spec, Value, default_model, device_names, load_device

NAMES = device_names()
CALIBRATED = [name for name in NAMES if "\ncalibration:" in (DEVICES / f"{name}.yaml").read_text()]


def cost(size: float = 1.0, kernels: int = 30) -> Cost:
    return Cost.from_operators([OperatorCost("mm", "matmul", 1e8 * size, 1e6 * size, 1e6 * size)] * kernels)


@pytest.fixture(params=NAMES)
def device(request: pytest.FixtureRequest) -> Device:
    return load_device(str(request.param))


@pytest.fixture(params=CALIBRATED)
def calibrated(request: pytest.FixtureRequest) -> Device:
    return load_device(str(request.param))


def points_of(device: Device) -> list[Point]:
    return device.calibration.points if device.calibration else []


def spec_values(spec: Spec) -> list[Value]:
    rest = (spec.bandwidth_gb_s, spec.memory_gb, spec.power_w)
    return [*spec.tflops.values(), *(value for value in rest if value is not None)]


def test_the_promised_devices_are_there() -> None:
    gpus = {"jetson-orin", "jetson-orin-nano", "t4", "rtx-4090", "a100", "h100"}
    assert gpus | {"iphone-12", "galaxy-s24", "raspberry-pi-5", "local-cpu"} <= set(NAMES)
    assert any(name.startswith("xeon") for name in NAMES)


def test_name_is_the_file_and_every_fact_has_a_source(device: Device) -> None:
    assert (DEVICES / f"{device.name}.yaml").exists()
    assert all(value.source.strip() for value in spec_values(device.spec))
    if device.calibration is None:
        assert device.runtime is None or device.measurable
        assert device.spec.tflops or device.measurable
    else:
        assert all(point.source.strip() for point in device.calibration.points)
        nets = [(point.model, point.input, point.latency_ms) for point in points_of(device)]
        assert len(set(nets)) == len(nets)


def test_no_published_point_beats_the_roofline(calibrated: Device) -> None:
    """Nothing is faster than the stated peak; a point that is would be typed wrongly."""
    peak = calibrated.spec.tflops.get(calibrated.precision)
    for point in points_of(calibrated) if peak else ():
        assert peak is not None
        assert point.latency_ms >= 1e3 * point.cost(calibrated.precision).flops / (1e12 * peak.value)


def test_stated_macs_agree_with_the_typed_operators(calibrated: Device) -> None:
    for point in points_of(calibrated):
        if point.gmacs is not None:
            assert point.cost("fp16").flops / 2e9 == pytest.approx(point.gmacs, rel=0.35)


def test_latency_is_positive_ordered_and_says_where_it_comes_from(device: Device) -> None:
    latency = device.latency(cost())
    assert 0 < latency.low_ms <= latency.mean_ms <= latency.high_ms
    assert latency.source == ("calibrated" if device.calibration else "analytic")
    assert latency.tier in ("C", "D")
    assert latency.tier == "D" or latency.source == "calibrated"


def test_latency_grows_with_the_cost(device: Device) -> None:
    means = [device.latency(cost(size)).mean_ms for size in (0.01, 1, 3, 100)]
    assert means == sorted(means)
    assert device.latency(cost(kernels=31)).mean_ms > device.latency(cost(kernels=30)).mean_ms


def test_the_datasheet_alone_is_less_certain(calibrated: Device) -> None:
    model = calibrated.model
    alone = default_model(calibrated.model_copy(update={"calibration": None}))
    assert model is not None
    assert alone.source == "analytic"
    assert alone.high_factor > model.high_factor
    assert alone.low_factor < model.low_factor


def test_far_from_the_calibration_the_interval_widens_and_the_tier_drops(calibrated: Device) -> None:
    middle = sorted(p.cost("fp32").flops for p in points_of(calibrated))[2]
    inside, outside = (calibrated.latency(cost(flops / 1e8, kernels=1)) for flops in (middle, middle / 1e5))
    assert inside.tier == "C"
    assert outside.tier == "D"
    assert outside.high_ms / outside.mean_ms > inside.high_ms / inside.mean_ms


def test_json_round_trip(device: Device) -> None:
    assert Device.from_json(device.to_json()) == device


def test_precision_of_the_trace_does_not_matter(device: Device) -> None:
    module, example = nn.Linear(64, 64), torch.zeros(4, 64)
    by_precision = {device.latency(trace_cost(module, example, p)) for p in ("fp32", "fp16", "int8")}
    assert by_precision == {device.latency(module, example)}


def test_the_local_machine_is_measured_and_says_so() -> None:
    device = load_device("local-cpu")
    assert device.measurable
    assert device.model is not None
    assert device.model.rates == local_rates()
    assert device.latency(cost()).source == "analytic"


def test_unknown_device_lists_the_nearest_first() -> None:
    with pytest.raises(UserError, match=r"unknown device 'jetson-orim'; valid: jetson-orin, "):
        load_device("jetson-orim")


def test_a_module_needs_an_example() -> None:
    with pytest.raises(UserError, match="example"):
        load_device("h100").latency(nn.Linear(2, 2))


OWN = {
    "name": "mine",
    "title": "My board",
    "unit": "GPU",
    "kind": "embedded-gpu",
    "precision": "fp16",
    "spec": {
        "tflops": {"fp16": {"value": 1.0, "kind": "vendor", "source": "data sheet"}},
        "bandwidth_gb_s": {"value": 50, "kind": "vendor", "source": "data sheet"},
    },
}


def test_a_device_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(OWN))
    assert load_device(path) == load_device(str(path))
    assert load_device(path).latency(cost()).source == "analytic"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "toaster"}, r"kind: .*'server-gpu'"),
        ({"watts": 5}, r"watts: Extra"),
        ({"spec": {"memory_gb": {"value": 4, "kind": "vendor"}}}, r"memory_gb.source"),
        ({"spec": {"power_w": {"value": -4, "kind": "vendor", "source": "sheet"}}}, r"power_w.value: .*greater than 0"),
        (
            {"calibration": {"runtime": "R 1", "precision": "fp16", "statistic": "mean", "points": []}},
            r"points: .*least 4",
        ),
        ({"title": None}, "title"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(OWN | change))
    with pytest.raises(UserError, match=words) as caught:
        load_device(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("[1, 2", "no YAML"), ("just words", "not valid"), (None, "cannot be read")]
)
def test_what_is_no_device_file(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_device(path)


def test_a_calibration_of_another_runtime_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load((DEVICES / "a100.yaml").read_text())
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(content | {"runtime": "TensorRT 10"}))
    with pytest.raises(UserError, match="runtime and precision"):
        load_device(path)


def test_with_model_keeps_the_rest() -> None:
    device = load_device("t4")
    assert device.model is not None
    slower = device.with_model(replace(device.model, low_factor=0.5))
    assert slower.spec == device.spec
    assert slower.latency(cost()).low_ms < device.latency(cost()).low_ms
