"""The command's manners: exit codes, one sentence for an error, nothing written in vain, help with examples."""

import errno
import os
import re

import pytest
from nas_command import Result, nas_command, tiny_space

from nas import files
from nas.search import answer as answer_files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder, which does not exist yet; no ONNX, which takes seconds and is tested with the main job."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answer_files, "FORMATS", ("safetensors",))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def quick_search(folder, *arguments: object) -> Result:
    """A search on a tiny space, in the cache unless a run is named."""
    settings = ("--space", tiny_space(folder), "--steps", 10, "--evaluations", 12)
    return nas_command("search", "--target", "jetson-orin", *settings, *arguments)


def assert_one_sentence(result: Result, code: int) -> None:
    """The exit code, and one line on stderr that starts with the name of the command."""
    assert result.code == code, result
    assert result.err.startswith("nas: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err


WRONG = [
    (["--target", "jetson-oron"], "unknown device 'jetson-oron'; valid: jetson-orin, jetson-orin-nx"),
    (["--task", "digit"], "unknown task 'digit'; valid: digits,"),
    (["--space", "vit-digts"], "unknown space 'vit-digts'; valid: vit-digits,"),
    (["--algorithm", "nsga"], "unknown algorithm 'nsga'; valid: nsga2,"),
    (["--budget", "5mss"], "a number and a unit (ms, s, us, %)"),
    (["--budget", "5"], "a number and a unit (ms, us, s, %), as in 5ms"),
    (["--budget", "0ms"], "must be more than zero"),
    (["--budget", "101%"], "at most 100%"),
    (["--max-memory", "50MiBs"], "unit (MiB,"),
    (["--max-params", "lots"], "--max-params 'lots'"),
    (["--max-energy", "20mW"], "--max-energy '20mW' is not understood; write a number and a unit (mJ,"),
    (["--max-size", "4"], "as in 50MiB"),
    (["--max-p95", "160%"], "--max-p95 '160%' is more than the largest net has"),
    (["--max-energy", "1mJ", "--max-energy", "2mJ"], "--max-energy is given 2 times for 1 targets"),
    (["--objective", "enrgy"], "unknown objective 'enrgy'; valid: energy_mj,"),
    (["--objective", "latency_p95_ms"], "the 95th percentile of jetson-orin is unknown"),
    (["--max-p95", "8ms"], "or measure it with `nas profile`"),
    (["--target", "local-cpu", "--objective", "energy_mj"], "the power of local-cpu is unknown: state `power_w`"),
    (["--target", "local-cpu", "--max-energy", "20mJ"], "the power of local-cpu is unknown"),
    (["--space", "missing.py:vit"], "missing.py cannot be read"),
    (["--space", "missing.yaml"], "missing.yaml cannot be read"),
    (["--target", "missing.yaml"], "missing.yaml cannot be read"),
    (["--task", "image-folder:missing"], "missing"),
    (["--steps", "0"], "steps"),
    (["--quantize", "w5"], "quantization 'w5' is not understood; write the bits of weights and activations as in w8a8"),
    (
        ["--quantize", "w8a8,fp8"],
        "jetson-orin does not run fp8; jetson-orin runs w16a16, w8a16, w8a8, w4a16g32, w4a8, bf16",
    ),
    (["--quantize", ""], "quantization '' is not understood"),
    (["--quantize", "w8a8,w4a4"], "w4a4 can be evaluated and not shipped: no runtime here has kernels for activations"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_input_is_one_sentence_and_code_2(cache, arguments, said):
    result = nas_command("search", *(["--target", "jetson-orin"] if "--target" not in arguments else []), *arguments)
    assert_one_sentence(result, 2)
    assert said in result.err
    assert {path.name for path in cache.glob("*")} <= {"devices"}  # fitted profiles, which another command needs, too


@pytest.mark.parametrize("command", ["train", "search"])
def test_a_wrong_function_of_a_space_file_is_found_before_anything_is_written(cache, tmp_path, command):
    (tmp_path / "mine.py").write_text("def vit(trial): ...\n\ndef cnn(trial): ...\n")
    result = nas_command(command, "--space", "mine.py:vitt")
    assert_one_sentence(result, 2)
    assert "unknown function in mine.py 'vitt'; valid: vit, cnn" in result.err
    assert not cache.exists()


def test_a_space_is_quantized_once(cache, tmp_path):
    net = "nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    lines = "import nas", "from torch import nn", f"space = nas.SearchSpace(lambda trial: {net}).quantized()"
    (tmp_path / "mine.py").write_text("\n".join(lines))
    result = nas_command("search", "--target", "jetson-orin", "--space", "mine.py:space", "--quantize", "auto")
    assert_one_sentence(result, 2)
    assert "quantized already and takes no second policy; search it without --quantize" in result.err
    assert not cache.exists()


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (
            ["--budget", "1us"],
            3,
            ["no net of the space keeps latency at most 0.001 ms on jetson-orin", "The least, ", "width=16", "ms"],
        ),
        (["--max-params", "1K"], 3, ["parameters at most 1 K", "width=16"]),
        (["--max-flops", "1K"], 3, ["FLOPs at most 1 K"]),
        (["--max-memory", "1B"], 3, ["memory at most"]),
        (["--max-size", "1KiB"], 3, ["size at most", "MiB more"]),
        (
            ["--max-energy", "1uJ"],
            3,
            ["energy at most 0.001 mJ on jetson-orin", "the limit bounds the upper end", "width=16"],
        ),
    ],
)
def test_an_impossible_limit_is_said_before_training(cache, tmp_path, limits, code, said):
    result = quick_search(tmp_path, *limits)
    assert_one_sentence(result, code)
    for words in said:
        assert words in result.err
    assert not cache.exists()


@pytest.mark.parametrize("impossible", ["1us", "1%"])
def test_the_nearest_feasible_budget_is_feasible(tmp_path, impossible):
    refused = quick_search(tmp_path, "--budget", impossible)
    assert refused.code == 3
    (nearest,) = re.findall(r"nearest feasible limit is (\S+)\.$", refused.err)
    accepted = quick_search(tmp_path, "--budget", nearest)
    assert accepted.code == 0, accepted.err


def test_a_local_target_refuses_what_is_counted_before_training(cache, tmp_path):
    settings = ("--space", tiny_space(tmp_path), "--max-params", "1K")
    assert_one_sentence(nas_command("search", "--target", "local-cpu", *settings), 3)
    assert not cache.exists()


# Files


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    result = quick_search(tmp_path)
    assert_one_sentence(result, 1)
    assert "No space left on device" in result.err


def test_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = quick_search(tmp_path, "--run", tmp_path / "file" / "run")
    assert_one_sentence(result, 1)
    assert str(tmp_path / "file") in result.err


def test_a_broken_study_file_is_one_sentence(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "study.db").write_bytes(b"this is no database" * 100)
    result = quick_search(tmp_path, "--run", run)
    assert_one_sentence(result, 2)
    assert "study.db cannot be used as a study database: file is not a database" in result.err


@pytest.mark.parametrize("command", [["extract", "--arch", "best", "--run"], ["health"]])
def test_a_folder_without_a_run_is_one_sentence(tmp_path, command):
    assert_one_sentence(nas_command(*command, tmp_path / "nothing"), 2)
    assert not (tmp_path / "nothing").exists()


# Looking around

COMMANDS = [["search"], ["train"], ["extract"], ["health"], ["devices"], ["space", "show"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command):
    result = nas_command(*command, "--help")
    assert result.code == 0
    assert f"nas {' '.join(command)}" in result.out.split("Usage:")[1].split("\n", 2)[2]
    assert "Example" in result.out


@pytest.mark.parametrize("command", [["--help"], ["space", "--help"], ["-h"]])
def test_help_of_a_group(command):
    result = nas_command(*command)
    assert result.code == 0
    assert "show" in result.out or "search" in result.out


def test_an_unknown_command_names_the_nearest():
    result = nas_command("serch")
    assert result.code == 2
    assert "'search'" in result.err


def test_devices_lists_every_device():
    from nas import device_names

    result = nas_command("devices", width=100)
    assert result.code == 0
    for name in device_names():
        assert re.search(rf"{name}\b", result.out)
    assert max(len(line) for line in result.out.splitlines()) <= 100


def test_space_show_names_genes_and_size(tmp_path):
    result = nas_command("space", "show", tiny_space(tmp_path))
    assert result.code == 0
    assert "layers.1.keep" in result.out
    # 2 widths; a layer has (softmax with 1 or 2 heads, or pool) x 2 FFNs; the second may be absent: 2 * 6 * 7
    assert "84 architectures, 1,674 to 26,474 parameters" in result.out
