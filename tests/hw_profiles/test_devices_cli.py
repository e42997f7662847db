"""`nas devices`: the table, one profile, the check and the schema."""

import json
import re
from pathlib import Path

import pytest
import yaml
from nas_command import nas_command

from nas.hw_profiles import device_names
from nas.hw_profiles.catalog import DEVICES

FEW = ["jetson-nano", "h100", "hailo-8", "raspberry-pi-5"]


def test_the_table_fits_a_terminal_and_names_runtime_tier_and_points() -> None:
    result = nas_command("devices", width=100)
    assert result.code == 0
    for name in device_names():
        assert re.search(rf"│ {name} ", result.out)
    assert max(len(line) for line in result.out.splitlines()) <= 100
    assert "datasheet only" in nas_command("devices", width=200).out


@pytest.mark.parametrize("name", FEW)
def test_show_says_facts_with_sources(name: str) -> None:
    result = nas_command("devices", "show", name)
    content = yaml.safe_load((DEVICES / f"{name}.yaml").read_text())
    assert result.code == 0, result.err
    said = " ".join(result.out.split())
    assert content["title"] in said
    assert content["runtime"]["version"] in said
    assert all(re.sub(r"\W", "", note)[:60] in re.sub(r"\W", "", result.out) for note in content["notes"])
    for value in content["spec"].get("tflops", {}).values():
        assert f"{value['value']:g} TFLOP/s" in said
        assert value["source"] in said
    for net in content.get("calibration", {}).get("points", []):
        assert net["model"] in said


def test_show_says_that_a_version_is_not_stated() -> None:
    assert re.search(r"version +│ not stated by the authors", nas_command("devices", "show", "jetson-nano").out)


@pytest.mark.parametrize("name", FEW)
def test_a_page_is_whole_and_loads_nothing(name: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert nas_command("devices", "show", name, "--html", page).code == 0
    text = page.read_text()
    assert not re.search(r"\{[{%#]", re.sub(r"<script>.*?</script>", "", text, flags=re.S)), "an unfilled slot"
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']https?:""", text)
    assert ('id="calibration"' in text) == (name != "h100")


@pytest.mark.slow
def test_check_of_the_package_finds_nothing() -> None:
    result = nas_command("devices", "check")
    assert result.code == 0, result.out
    assert f"{len(device_names())} profiles, {len(device_names())} sound" in result.out


def test_check_says_what_is_wrong_and_exits_with_2(tmp_path: Path) -> None:
    content = yaml.safe_load((DEVICES / "jetson-nano.yaml").read_text())
    content["calibration"]["points"][0]["latency_ms"] = 0.01
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(content))
    result = nas_command("devices", "check", "t4", wrong)
    assert result.code == 2
    assert "beats the roofline bound" in result.out
    assert "2 profiles, 1 sound, 1 with findings" in result.out


def test_check_of_a_file_that_is_none(tmp_path: Path) -> None:
    result = nas_command("devices", "check", tmp_path / "none.yaml")
    assert result.code == 2
    assert "cannot be read" in result.out


def test_unknown_device() -> None:
    result = nas_command("devices", "show", "t5")
    assert result.code == 2
    assert result.err.startswith("nas: unknown device 't5'; valid: t4, ")


def test_schema_is_json() -> None:
    schema = json.loads(nas_command("devices", "schema").out)
    assert {"name", "runtime", "precision", "calibration", "spec", "supports"} <= set(schema["properties"])
    assert "runtime" in schema["required"]
