"""The main job with bits as genes: what is said and written of a quantized net, and its extraction afterwards."""

import json
import re
import shutil
from dataclasses import replace
from unittest import mock

import pytest
import torch
from nas_command import ask, nas_command, tiny_space

import nas
from nas.search import answer as answer_files
from nas.search import parity, run_folder
from nas.search_space.quantization import policy_of
from nas.tasks.task import ACCURACY


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A run folder after one search with a policy, the answer, and the net as it is loaded."""
    folder = tmp_path_factory.mktemp("quantized")
    run, formats = folder / "run", ("safetensors", "onnx")
    with mock.patch.object(answer_files, "FORMATS", formats):
        result = ask(run, tiny_space(folder), "--quantize", "w8a8,w4a16", "--json", evaluations=4)
    assert result.code == 0, result.err
    return run, json.loads(result.out), nas.load(run / "best")


def test_the_forms_of_a_quantized_net_are_compared_on_the_split_that_is_looked_at_once(quantized):
    run, answer, twin = quantized
    found, task = json.loads((run / "best" / "parity.json").read_text()), nas.load_task("digits")
    assert found == answer["parity"]
    assert (found["split"], found["samples"]) == ("test", len(task.test))
    assert found["quantized"] == answer["test"] == nas.evaluate(twin, task, "test")
    outputs = nas.load(run / "best", format="onnx")(task.test.inputs).numpy()  # as the target computes it
    assert found["file"] == pytest.approx((outputs.argmax(-1) == task.test.targets.numpy()).mean())
    with torch.no_grad():
        same = outputs.argmax(-1) == twin(task.test.inputs).argmax(-1).numpy()
    assert found["agreement"] == pytest.approx(same.mean())
    # That net in floats: as extracted from the plain space.
    opened = run_folder.open_run(run)
    genes = {n: v for n, v in answer["architecture"].items() if not n.startswith("quantize.")}
    plain = opened.supernet().extract(opened.space.architecture(genes))
    assert found["floats"] == pytest.approx(nas.evaluate(plain, task, "test"))
    said = [(run / "best" / "README.md").read_text(), answer["facts"]["parity"]]
    assert all(f"in floats {found['floats']:.2%}, quantized {found['quantized']:.2%}" in text for text in said)


def test_the_policy_of_each_part_is_written_in_words(quantized):
    run, _, twin = quantized
    found = json.loads((run / "best" / "policy.json").read_text())
    assert found.keys() == policy_of(twin).keys()
    assert all(part["weights"].startswith(f"{policy_of(twin)[name].weights} bits") for name, part in found.items())
    readme = (run / "best" / "README.md").read_text()
    assert "`policy.json` says of each part" in readme
    integers = any(scheme.text == "w8a8" for scheme in policy_of(twin).values())
    assert ("- weights of 8 bits in model.onnx: " in readme) == integers


def test_the_size_of_a_quantized_net_is_that_of_its_file(quantized):
    run, answer, _ = quantized
    assert answer["costs"]["size_mib"]["value"] * 2**20 == (run / "best" / "model.safetensors").stat().st_size
    assert re.match(r"w\w+ in \d of \d parts", answer["facts"]["quantization"])


def test_extract_knows_the_policies_of_the_last_search(quantized, tmp_path):
    run, answer, best = quantized
    names = ("best", "front:1", "largest")
    options = [x for n in names for x in ("--arch", n)]
    result = nas_command("extract", "--run", run, "--out", tmp_path, "--format", "safetensors", *options)
    assert result.code == 0, result.err
    found = nas.load(tmp_path / "best")
    x = nas.load_task("digits").validation.inputs[:64]
    with torch.no_grad():
        assert found(x).equal(best(x))
    assert f"best: net {answer['id']}, {answer['validation']:.2%} on validation" in result.out
    stored = [(folder / "model.safetensors").read_bytes() for folder in (run / "best", tmp_path / "best")]
    assert stored[0] == stored[1]
    compared = json.loads((tmp_path / "front-1" / "parity.json").read_text())
    assert (compared["split"], compared["file"]) == ("validation", None)
    assert not (tmp_path / "largest" / "parity.json").exists()


def test_extract_says_where_a_policy_cannot_be_known(quantized, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quantized[0], run, ignore=shutil.ignore_patterns("best", "checkpoints"))
    net = tmp_path / "net.json"
    net.write_bytes((quantized[0] / "best" / "architecture.json").read_bytes())
    result = nas_command("extract", "--run", run, "--arch", net, "--out", tmp_path / "out")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "model.json, which would say what it chose from, is missing or of another search" in result.err
    assert not (tmp_path / "out").exists()


def test_fewer_calibration_inputs_than_asked_for_are_said():
    few = parity.Parity(ACCURACY, "test", 100, 20, 0.9, 0.9)
    assert few.text.endswith("calibrated on 20 inputs, all that there are of the 32 asked for")
    assert replace(few, calibrated=32).text.endswith("calibrated on 32 inputs")
