"""Targets say which quantization schemes they run: what is named and does not run is refused, `auto` leaves it out."""

import pytest
from example_devices import a_device

from nas.errors import UserError
from nas.hw_profiles import device_names, load_device
from nas.hw_profiles.device import Device
from nas.hw_profiles.policies import policies_for, runs
from nas.search_space.quantization import USUAL, Scheme

FP8 = {"h100", "l4", "rtx-4090"}
"""Hopper and Ada; Ampere, Turing and the others have none."""


def device(*precisions: str) -> Device:
    return a_device(precision=precisions[0], supports={"precisions": [*precisions], "source": "a manual"})


@pytest.mark.parametrize("name", device_names())
def test_auto_is_what_the_device_runs(name: str) -> None:
    chip = load_device(name)
    assert runs(chip, Scheme.parse("fp8")) == (name in FP8)
    expected = {"hailo-8": (Scheme(8, 8), Scheme(4, 8))}.get(name, USUAL if name in FP8 else USUAL[:-1])
    assert policies_for("auto", [chip]).schemes == expected


@pytest.mark.parametrize(
    ("scheme", "precisions", "run"),
    [
        ("w8a8ts", ["int8"], True),
        ("w8a8ts", ["fp16"], False),
        ("w4a16z", ["int8"], False),
        ("w4a16z", ["int8", "bf16"], True),
        ("fp16", ["int8", "fp16"], True),
        ("fp16", ["fp32", "bf16"], False),
        ("bf16", ["fp32", "bf16"], True),
        ("bf16", ["fp16", "int8"], False),
        ("fp8", ["fp16", "int8"], False),
        ("fp8", ["fp8"], True),
    ],
)
def test_a_list_of_precisions_decides(scheme: str, precisions: list[str], run: bool) -> None:
    chip = device(*precisions)
    assert runs(chip, Scheme.parse(scheme)) == run
    if run:
        assert policies_for(scheme, [chip]).schemes == (Scheme.parse(scheme),)
    else:
        with pytest.raises(UserError, match=rf"^chip does not run {Scheme.parse(scheme).text}[;,].* chip runs "):
            policies_for(scheme, [chip])


def test_what_one_of_the_targets_does_not_run_is_left_out_or_refused() -> None:
    h100, cpu, hailo = map(load_device, ("h100", "local-cpu", "hailo-8"))
    assert policies_for("auto", [h100, cpu]).schemes == USUAL[:-1]
    assert policies_for("auto", [h100, hailo]).texts == ["w8a8", "w4a8"]
    with pytest.raises(UserError, match=r"^local-cpu does not run fp8; local-cpu runs w16a16, w8a16, "):
        policies_for("w8a8,fp8", [h100, cpu])
    with pytest.raises(
        UserError, match=r"w4a16g32, which needs fp32 or tf32 or fp16 or bf16; hailo-8 runs w8a8, w4a8$"
    ):
        policies_for("w4a16", [hailo])
    with pytest.raises(
        UserError, match=r"^no quantization scheme runs on all targets: hailo-8 runs w8a8, .*; chip runs "
    ):
        policies_for("auto", [hailo, device("fp16")])
