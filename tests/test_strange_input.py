"""Strange input to every command: one sentence, exit code 2, nothing written, and users' words as they stand."""

import copy
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nas_command import Result, nas_command
from test_cli import assert_one_sentence

import nas
from nas import cli
from nas.cli.plain import LONGEST, degrade, one_line
from nas.errors import UserError
from nas.hw_profiles.catalog import DEVICES
from nas.supernet.memory import check_memory

MARKUP = "[/red] [bold]:smile:"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory; the cache does not exist."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(result: Result, folder: Path, *said: str) -> None:
    """One sentence of a readable length, code 2, and no file that was not there."""
    assert_one_sentence(result, 2)
    assert len(result.err) <= LONGEST + 20
    for words in said:
        assert words in result.err
    assert not [path for path in folder.iterdir() if path.name not in ("device.yaml", "space.yaml", "space[1].py")]


FIVE = "\N{ARABIC-INDIC DIGIT FIVE}"
BUDGETS = ["", " ", "5", "5m", "%", "nan", "nanms", "infms", f"{FIVE}ms", "½ms", "5,5ms", "1e3ms", "101%", "-5ms"]
OPTIONS = [
    *(["search", f"--budget={text}"] for text in (*BUDGETS, "9" * 320 + "ms")),
    ["search", "--max-params", "9" * 400],
    ["search", "--max-memory", f"{FIVE}MiB"],
    ["search", "--batch", "100000000"],
    ["search", "--workers", "1000000"],
    ["search", "--evaluations", "9" * 5000],
    ["search", "--seed", "-1"],
    ["search", "--quantize", "w4a16g99999999"],
    ["search", "--quantize", MARKUP],
    ["search", "--task", ""],
    ["search", "--space", ""],
    ["train", "--seed", "-1"],
    ["tune", "--trials", "10000000"],
    ["profile", "--input", "²x3"],
    ["profile", "--input", "999999999x999999999"],
    ["profile", "--host", "-oProxyCommand=x"],
    ["profile", "--host", "a;b"],
    ["profile", "--host", "u@h", "--out", "profile.txt"],
    ["search", "--bogus"],
    ["bogus"],
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=lambda a: " ".join(a)[:40])
def test_options(folder, arguments):
    target = ["--target", "jetson-orin"] if arguments[0] == "search" else []
    assert_refused(nas_command(*arguments, *target), folder)


QUOTED = [
    ["search", "--target", MARKUP],
    ["search", "--target", "a?%20[b].yaml"],
    ["search", "--task", "[/red] [bold]"],
    ["search", "--space", MARKUP],
    ["search", "--algorithm", MARKUP],
    ["search", "--objective", MARKUP],
    ["extract", "--arch", "best", "--run", MARKUP],
    ["health", MARKUP],
    ["devices", "show", MARKUP],
    ["space", "show", MARKUP],
    ["profile", "--runtime", MARKUP],
    ["profile", "ingest", "a?%20[b].json", "--bundle", "a?%20[b].zip"],
    [MARKUP],
    ["search", f"--{MARKUP}"],
]


@pytest.mark.parametrize("arguments", QUOTED, ids=lambda a: " ".join(a)[:40])
def test_what_a_user_writes_is_quoted_whole(folder, arguments):
    assert_refused(nas_command(*arguments), folder, arguments[-1].removeprefix("--"))


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return yaml.safe_load((DEVICES / "raspberry-pi-5.yaml").read_text())


POINT = {
    "latency_ms": [float("inf"), float("nan"), -1, 0, 1e300, True, MARKUP],
    "noise": [-5, float("inf")],
    "params_m": [-5, float("nan")],
    "p95_ms": [-1],
    "operators": [[["matmul", 1, float("inf"), 1, 1]], [["matmul", 0, 1, 1, 1]], []],
}
EDITS = [
    *((["calibration", "points", 0, name], value) for name, values in POINT.items() for value in values),
    (["error"], {"tier": "B", "quantile_90": float("nan")}),
    (["spec", "power_w"], {"value": float("inf"), "kind": "vendor", "source": "them"}),
    (["name"], "../../escape"),
    (["title"], "x" * 10**4),
    ([MARKUP], 1),
]


@pytest.mark.parametrize(("where", "value"), EDITS, ids=lambda v: str(v)[:40])
def test_device_files(folder, board, where, value):
    changed: Any = copy.deepcopy(board)
    inner = changed
    for part in where[:-1]:
        inner = inner[part]
    inner[where[-1]] = value
    (folder / "device.yaml").write_text(yaml.safe_dump(changed))
    assert_refused(nas_command("devices", "show", "device.yaml"), folder, str(where[-1]))


def test_a_point_a_thousand_times_off_is_a_finding(folder, board):
    changed = copy.deepcopy(board)
    changed["calibration"]["points"][3]["latency_ms"] *= 1000
    (folder / "device.yaml").write_text(yaml.safe_dump(changed))
    result = nas_command("devices", "check", "device.yaml")
    assert result.code == 2
    assert changed["calibration"]["points"][3]["model"] in result.out
    assert "times what the other points predict" in result.out


def test_the_words_of_a_device_file_are_no_markup(folder, board):
    (folder / "device.yaml").write_text(yaml.safe_dump(board | {"title": MARKUP, "notes": [MARKUP]}))
    result = nas_command("devices", "show", "device.yaml")
    assert result.code == 0
    assert result.out.count(MARKUP) == 2


SPACES = [
    *(f"genes: {{window: {options}}}\nmixer: window" for options in ("[0]", "[abc]", "[3.5]", "[-1, 2]", "[1000000]")),
    *(f"genes: {{kernel: [{kernel}]}}\nmixer: conv" for kernel in (0, 2, 257, 1000001)),
    "expansion: .inf",
    "expansion: .nan",
    "expansion: 1e300",
    "width: 100000000",
    "width: yes",
    "layers: 1000000",
    "head_dim: 100000000",
    "width: [16]\nwidth: [32]",
    f"mixer: '{MARKUP}'",
    f"'{MARKUP}': 1",
    "[" * 30_000,
    "null",
    "",
]


@pytest.mark.parametrize("text", SPACES, ids=lambda t: repr(t[:40]))
def test_space_files(folder, text):
    (folder / "space.yaml").write_text(text)
    assert_refused(nas_command("space", "show", "space.yaml"), folder)


def test_a_net_larger_than_the_memory_says_how_large():
    with pytest.raises(UserError, match=r"1,000,000,000,000,000 parameters, 3,725,290 GiB; this machine has"):
        check_memory(10**15)
    check_memory(10**6)


def test_the_name_of_a_gene_is_a_text():
    with pytest.raises(UserError, match="the name of a gene must be a string, got 5"):
        nas.SearchSpace(lambda trial: torch.nn.Linear(trial.suggest_int(5, 1, 2), 1))


def ended_by(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    """The command, if `error` is raised where it lists devices."""

    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nas.hw_profiles.catalog.device_names", raises)
    return nas_command("devices")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SystemExit(0), 2, "called sys.exit(0)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "memory of this machine"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "memory of this machine"),
        (RecursionError(), 2, "nested too deeply"),
        (PermissionError(13, "Permission denied", "/a?/[b]"), 1, "/a?/[b]: Permission denied"),
        (IsADirectoryError(21, "Is a directory", "x"), 1, "x: Is a directory"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else "",
)
def test_ends_that_are_nobodys_fault_here(monkeypatch, error, code, said):
    result = ended_by(monkeypatch, error)
    assert_one_sentence(result, code)
    assert said in result.err


def test_a_fault_of_the_package_keeps_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        ended_by(monkeypatch, ZeroDivisionError())


def test_nobody_reads_the_output(monkeypatch):
    result = ended_by(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert (result.code, result.err) == (cli.NO_READER, "")


def test_a_terminal_in_ascii(monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    degrade(sys.stdout)
    print("█│ 5 µs ☃", flush=True)
    assert bytes_.getvalue() == b"#| 5 us ?\n"


def test_a_message_is_one_line():
    assert one_line("a\n  b\x1b[31m[c]  d\n") == "a b\\x1b[31m[c]  d"
    assert len(one_line("x" * 10**6)) <= LONGEST + 20
