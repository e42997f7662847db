"""One contract for every device file, and what users' own files may get wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from nas.errors import UserError
from nas.hw_profiles.benchmark import local_rates
from nas.hw_profiles.catalog import DEVICES, device_names, json_schema, load_device
from nas.hw_profiles.check import check
from nas.hw_profiles.cost import trace_cost
from nas.hw_profiles.device import Device, default_model
from nas.testing import device_checks
from nas.testing.devices import cost, predicted

NAMES = device_names()
CALIBRATED = [name for name in NAMES if "\ncalibration:" in (DEVICES / f"{name}.yaml").read_text()]
TIMED = [name for name in CALIBRATED if load_device(name).batch_mode != "throughput"]
DOCS = Path(__file__).parents[2] / "docs"
NO_SOURCE = ("", "unknown", "todo", "tbd", "n/a", "none")


@pytest.fixture(params=NAMES)
def device(request: pytest.FixtureRequest) -> Device:
    return load_device(str(request.param))


@pytest.fixture(params=CALIBRATED)
def calibrated(request: pytest.FixtureRequest) -> Device:
    return load_device(str(request.param))


@pytest.fixture(params=TIMED)
def timed(request: pytest.FixtureRequest) -> Device:
    return load_device(str(request.param))


# Every file


def test_the_promised_devices_are_there() -> None:
    jetsons = {"jetson-orin", "jetson-orin-nx", "jetson-orin-nano", "jetson-orin-nano-super", "jetson-nano"}
    gpus = {"t4", "l4", "a100", "h100", "rtx-3090", "rtx-4090", "titan-xp"}
    phones = {"iphone-12", "galaxy-s24", "galaxy-s24-tflite", "galaxy-s24-ort", "snapdragon-x-elite"}
    cpus = {"raspberry-pi-4", "raspberry-pi-5", "core-i7-12700h", "core-i9-10940x", "local-cpu"}
    assert jetsons | gpus | phones | cpus | {"hailo-8"} <= set(NAMES)
    assert sum(name.startswith("xeon") for name in NAMES) >= 2


@pytest.mark.parametrize(
    "check", [pytest.param(c, id=f"{n}-{about}") for n in NAMES for about, c in device_checks(n).items()]
)
def test_devices_keep_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_name_is_the_file_and_the_tier_says_published(device: Device) -> None:
    assert (DEVICES / f"{device.name}.yaml").exists()
    assert predicted(device, cost())[2] in ("C", "D")


def test_inside_the_calibration_the_tier_says_published(timed: Device) -> None:
    assert timed.latency(timed.nets[0].cost(timed.precision)).tier == "C"


def test_keys_are_unique() -> None:
    keys = {load_device(name).key for name in NAMES}
    assert len(keys) == len(NAMES)


def test_files_are_short(device: Device) -> None:
    assert len((DEVICES / f"{device.name}.yaml").read_text().splitlines()) <= 300


def test_the_datasheet_alone_is_less_certain(timed: Device) -> None:
    alone = timed.model_copy(update={"calibration": None, "validity": None, "model": None})
    here, there = (d.latency(timed.nets[0].cost(timed.precision)) for d in (timed, alone))
    assert there.source == "analytic"
    if len(timed.nets) >= 8:  # four points may disagree with the roofline by more than a datasheet is trusted
        assert there.high / there.low > here.high / here.low


def test_json_and_yaml_round_trip(device: Device, tmp_path: Path) -> None:
    assert Device.from_json(device.to_json()) == device
    path = tmp_path / f"{device.name}.json"
    path.write_text(device.to_json())
    assert load_device(path) == device


def test_precision_of_the_trace_does_not_matter(timed: Device) -> None:
    module, example = nn.Linear(64, 64), torch.zeros(4, 64)
    by_precision = {timed.latency(trace_cost(module, example, p)) for p in ("fp32", "fp16", "int8")}
    assert by_precision == {timed.latency(module, example)}


# Single devices


def test_same_silicon_in_another_power_mode_is_another_profile() -> None:
    plain, boosted = load_device("jetson-orin-nano"), load_device("jetson-orin-nano-super")
    assert plain.power_mode != boosted.power_mode
    assert boosted.latency(cost()).value < plain.latency(cost()).value


def test_a_throughput_is_never_called_a_latency() -> None:
    hailo = load_device("hailo-8")
    with pytest.raises(UserError, match="throughput only"):
        hailo.latency(cost())
    rate = hailo.throughput(cost())
    assert 0 < rate.low <= rate.value <= rate.high
    with pytest.raises(UserError, match=r"use device\.latency"):
        load_device("t4").throughput(cost())


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


def test_with_model_keeps_the_rest() -> None:
    device, other = load_device("t4"), load_device("jetson-nano")
    assert other.model is not None
    slower = device.with_model(other.model)
    assert slower.spec == device.spec
    assert slower.latency(cost()).value == other.latency(cost()).value


def test_the_published_schema_is_that_of_the_code() -> None:
    """If not: `nas devices schema > docs/device.schema.json`."""
    assert (DOCS / "device.schema.json").read_text() == json_schema()


# Files of users

OWN: dict[str, Any] = {
    "name": "mine",
    "title": "My board",
    "unit": "GPU",
    "kind": "embedded-gpu",
    "runtime": {"name": "TensorRT", "version": "10.3"},
    "precision": "fp16",
    "spec": {
        "tflops": {"fp16": {"value": 1.0, "kind": "vendor", "source": "data sheet"}},
        "bandwidth_gb_s": {"value": 50, "kind": "vendor", "source": "data sheet"},
    },
}


def written(folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(OWN | change))
    return path


def test_a_device_file_of_the_user(tmp_path: Path) -> None:
    path = written(tmp_path, {})
    assert load_device(path) == load_device(str(path))
    assert load_device(path).latency(cost()).source == "analytic"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "toaster"}, r"kind: .*'server-gpu'"),
        ({"watts": 5}, r"watts: Extra"),
        ({"runtime": {"name": "TensorRT"}}, r"runtime.version: Field required"),
        ({"runtime": {"name": "TensorRT", "version": ""}}, r"runtime.version: .*at least 1"),
        ({"runtime": None}, r"runtime"),
        ({"spec": {"memory_gb": {"value": 4, "kind": "vendor"}}}, r"memory_gb.source"),
        ({"spec": {"power_w": {"value": -4, "kind": "vendor", "source": "sheet"}}}, r"power_w.value: .*equal to 0\.0"),
        ({"calibration": {"points": []}}, r"calibration: .*either points .* or rates"),
        ({"supports": {"operators": ["conv"]}}, r"supports.operators.0: .*'matmul'"),
        ({"title": None}, "title"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_device(written(tmp_path, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("[1, 2", "not valid YAML"), ("just words", "not valid"), (None, "cannot be read")]
)
def test_what_is_no_device_file(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_device(path)


def test_rates_need_the_throughput_mode(tmp_path: Path) -> None:
    content = yaml.safe_load((DEVICES / "hailo-8.yaml").read_text())
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(content | {"batch_mode": "latency"}))
    with pytest.raises(UserError, match="kinds are never mixed"):
        load_device(path)


def test_an_operator_that_nothing_runs_is_refused(tmp_path: Path) -> None:
    device = load_device(written(tmp_path, {"supports": {"operators": ["convolution"]}}))
    with pytest.raises(UserError, match="does not run operators of kind matmul; it runs convolution"):
        device.latency(cost())


def test_a_fallback_costs_its_factor(tmp_path: Path) -> None:
    fallback = {"matmul": {"unit": "CPU", "cost_factor": 8, "source": "data sheet"}}
    slow = load_device(written(tmp_path, {"supports": {"operators": ["convolution"], "fallbacks": fallback}}))
    fast = load_device(written(tmp_path, {}))
    assert slow.latency(cost()) == fast.latency(cost(8))


def test_default_model_needs_no_loading() -> None:
    device = load_device("iphone-12")
    assert default_model(device.model_copy(update={"model": None})) == device.model


def test_the_example_of_the_documentation_is_a_device() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "devices.md").read_text(), re.S)
    content = yaml.safe_load(text)
    content["calibration"]["points"] = [
        p | {"input": str(i)} for p in content["calibration"]["points"] for i in range(3)
    ]
    device = Device.model_validate(content)
    assert check(device) == []
    assert device.latency(device.nets[0].cost("int8")).tier == "C"
