"""The main job, from nothing to files to ship, and further questions to the same run."""

import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from nas_command import EVALUATIONS, STEPS, ask, nas_command, tiny_space, trials

import nas
from nas.search import answer as answer_files
from nas.search import calibration, run_folder
from nas.search.costs import COSTS
from nas.search_space.locate import describe_space, space_from


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return tiny_space(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory, space):
    """A run folder after one search, and what the search printed."""
    run = tmp_path_factory.mktemp("runs") / "one"
    result = ask(run, space, "--budget", "0.5ms")
    assert result.code == 0, result.err
    return run, result


@pytest.fixture
def light(monkeypatch):
    """No ONNX: it takes seconds."""
    monkeypatch.setattr(answer_files, "FORMATS", ("safetensors",))


# The answer


def test_the_run_folder_is_complete(searched):
    run, _ = searched
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and p.parent.name != "checkpoints"}
    names = ("model.safetensors", "model.onnx", "model-fixed.onnx", "architecture.json", "model.json", "README.md")
    best = {f"best/{n}" for n in names}
    assert files == best | {
        *("front.csv", "study.db", "report.html", "run.json", "search.log"),
        *("supernet.safetensors", "history.json", "manifest.json", "answer.json"),
    }


def test_the_model_is_the_one_that_was_described(searched):
    run, result = searched
    model, task = nas.load(run / "best"), nas.load_task("digits")
    x, y = next(task.validation.batches(len(task.validation)))
    with torch.no_grad():
        logits = model(x)
    accuracy = float((logits.argmax(-1) == y).float().mean())
    assert f"{accuracy:.2%} of {len(y)}" in result.out
    assert f"{nas.evaluate(model, task, 'test'):.2%} of {len(task.test)}" in result.out
    session = onnxruntime.InferenceSession(run / "best" / "model.onnx")
    (onnx,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(onnx, logits.numpy(), atol=1e-4)
    architecture = nas.Architecture.from_json((run / "best" / "architecture.json").read_text())
    assert f"Net {architecture.id}" in result.out
    assert architecture.id in (run / "best" / "README.md").read_text()


def test_the_choice_keeps_the_budget_and_no_net_of_the_front_that_does_is_better(searched):
    run, _ = searched
    front = pd.read_csv(run / "front.csv")
    chosen = nas.Architecture.from_json((run / "best" / "architecture.json").read_text()).id
    assert (front["latency_high_ms"] <= 0.5).all()
    assert front.set_index("id").loc[chosen, "accuracy"] == front["accuracy"].max()
    assert list(front["accuracy"]) == sorted(front["accuracy"], reverse=True)


def test_the_command_and_the_budget_are_in_the_report(searched):
    run, _ = searched
    page = (run / "report.html").read_text()
    assert "nas search --target jetson-orin" in page
    assert "0.5ms" in page


@pytest.mark.usefixtures("light")
def test_the_second_call_trains_nothing_and_answers_alike(searched, space):
    run, first = searched
    kept = {name: (run / name).stat().st_mtime_ns for name in ("supernet.safetensors", "history.json")}
    front = (run / "front.csv").read_bytes()
    again = ask(run, space, "--budget", "0.5ms")
    assert again.code == 0
    assert "Training" not in again.out
    assert {name: (run / name).stat().st_mtime_ns for name in kept} == kept
    assert (run / "front.csv").read_bytes() == front
    assert again.out.splitlines()[-20:] == first.out.splitlines()[-20:]


@pytest.mark.usefixtures("light")
def test_json_is_alone_on_stdout_and_is_the_answer(searched, space):
    run, first = searched
    result = ask(run, space, "--budget", "0.5ms", "--json")
    assert (result.code, result.err) == (0, "")
    answer = json.loads(result.out)
    assert f"Net {answer['id']}" in first.out
    assert nas.Architecture(answer["architecture"]).id == answer["id"]
    front = pd.read_csv(run / "front.csv")
    assert [row["id"] for row in answer["front"]] == list(front["id"])
    assert answer["front"][0]["accuracy"] == answer["validation"] == front["accuracy"].max()
    latency = answer["latency"]
    assert latency["low"] <= latency["value"] <= latency["high"] <= answer["budget_ms"] == 0.5
    assert (latency["source"], len(latency["tier"])) == ("calibrated", 1)
    assert [name for name, path in answer["paths"].items() if not Path(path).exists()] == []
    assert len(answer["why"]) == 3


@pytest.mark.usefixtures("light")
def test_quiet_is_one_line_and_the_path_and_the_log_grows(searched, space):
    run, _ = searched
    before = (run / "search.log").read_text()
    result = ask(run, space, "--budget", "0.5ms", "--quiet")
    line, path = result.out.splitlines()
    assert re.match(r"net \w{10}: \d+\.\d\d% accuracy on validation, .* ms, .* \(.*, tier .\)$", line)
    assert (Path(path), result.err) == (run / "best", "")
    after = (run / "search.log").read_text()
    assert after.startswith(before)
    assert [after.count(words) for words in ("INFO command: nas search", "INFO end\n")] == [
        before.count(words) + 1 for words in ("INFO command: nas search", "INFO end\n")
    ]


@pytest.mark.usefixtures("light")
def test_baselines_are_evaluated_alike_and_shown(searched, space):
    run, _ = searched
    result = ask(run, space, "--budget", "0.5ms", "--baselines")
    assert result.code == 0, result.err
    assert re.search(r"random search +│ +24 │", result.out)
    assert re.search(r"uniform scaling +│ +\d │", result.out)
    page = (run / "report.html").read_text()
    assert all(words in page for words in ("random search", "uniform scaling", "Which genes mattered", "Why this net"))


# Other questions to the same run


@pytest.mark.parametrize(
    ("limit", "column", "upper"),
    [
        (["--max-params", "8K"], "params", 8000),
        (["--max-flops", "60K"], "flops", 60_000),
        (["--max-memory", "20KiB"], "memory_mib", 20 / 1024),
    ],
)
@pytest.mark.usefixtures("light")
def test_limits_are_kept_and_named(searched, space, limit, column, upper):
    run, _ = searched
    result = ask(run, space, *limit, evaluations=12)
    assert result.code == 0, result.err
    assert (pd.read_csv(run / "front.csv")[column] <= upper).all()
    assert re.search(rf"bounded by +│ {COSTS[column].metric.title}; better nets that exceed it: \d", result.out)


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_further_objectives_and_their_limits_are_in_all_files(searched, space):
    run, _ = searched
    question = ("--objective", "energy_mj", "--objective", "params", "--max-energy", "25mJ")
    result = ask(run, space, *question, evaluations=8)
    assert result.code == 0, result.err
    assert re.search(r"accuracy ┃ latency ms ┃ +90 % interval ┃ energy mJ ┃ params ┃", result.out)
    assert re.search(r"energy +│ [\d.]+ mJ, .* \(analytic, tier D\), allowed 25 mJ", result.out)
    front = pd.read_csv(run / "front.csv")
    assert (front["energy_high_mj"] <= 25).all()
    points = list(zip(-front["accuracy"], front["latency_ms"], front["energy_mj"], front["params"], strict=True))
    assert points == sorted(points)
    assert not any(all(x <= y for x, y in zip(a, b, strict=True)) and a != b for a in points for b in points)
    page = (run / "report.html").read_text()
    assert all(words in page for words in ("<th>energy</th>", "<th>size</th>", "allowed 25 mJ", "energy_mj"))
    answer = json.loads(ask(run, space, *question, "--json", evaluations=8).out)
    told = answer["costs"]["energy_mj"]
    assert told["low"] < told["value"] < told["high"] <= told["allowed"] == 25
    assert answer["front"][0]["energy_mj"] == front["energy_mj"][0]
    assert answer["id"] == front["id"][0]


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_another_budget_is_a_study_of_its_own(searched, space):
    run, _ = searched
    with sqlite3.connect(run / "study.db") as database:
        before = database.execute("select count(*) from studies").fetchone()[0]
    assert ask(run, space, "--budget", "80%").code == 0
    with sqlite3.connect(run / "study.db") as database:
        assert database.execute("select count(*) from studies").fetchone()[0] == before + 1
    largest = nas.load_device("jetson-orin").latency(cost_of_largest(space)).value
    assert (pd.read_csv(run / "front.csv")["latency_ms"] <= 0.8 * largest).all()


def cost_of_largest(space: Path) -> nas.Cost:
    task = nas.load_task("digits")
    found = space_from(describe_space(str(space), task.input_shape, task.classes))
    return nas.trace_cost(found.skeleton(found.largest), task.example, nas.load_device("jetson-orin").precision)


@pytest.mark.usefixtures("light")
def test_a_budget_that_does_not_bind_is_said(searched, space):
    result = ask(searched[0], space, "--budget", "1s")
    assert "Latency at most 1000 ms on jetson-orin does not bind: even the largest net has" in result.out


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_batch_changes_latency(searched, space):
    """The largest net is in the first batch of every search, so both searches know its latency."""
    run, _ = searched
    latency = {}
    for batch in (1, 64):
        result = ask(run, space, "--batch", batch, evaluations=4)
        assert re.search(rf"tier D\), batch {batch} ", result.out)
        latency[batch] = pd.read_csv(run / "front.csv")["latency_ms"].max()
    assert latency[64] > latency[1]


def test_a_run_of_something_else_is_refused(searched):
    run, _ = searched
    for arguments in (["--task", "fashion-mnist"], ["--steps", "31"], ["--space", "vit-digits"]):
        result = nas_command("search", "--target", "t4", "--run", run, *arguments)
        assert result.code == 2
        assert "name another --run" in result.err


@pytest.mark.usefixtures("light")
def test_seed_changes_the_run(tmp_path, space, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    arguments = ["--space", space, "--steps", 5]
    for seed in (0, 1, 0):
        assert nas_command("train", *arguments, "--seed", seed).code == 0
    first, second = ((p / "supernet.safetensors").read_bytes() for p in (tmp_path / "runs").iterdir())
    assert first != second


# Other commands on the same run


def test_extract_by_every_name(searched, tmp_path):
    run, _ = searched
    own = tmp_path / "own.json"
    own.write_text((run / "best" / "architecture.json").read_text())
    names = ["best", "front:2", "largest", "smallest", own]
    options = [x for n in names for x in ("--arch", n)]
    result = nas_command("extract", "--run", run, "--out", tmp_path / "out", "--format", "safetensors", *options)
    assert result.code == 0, result.err
    best, own, second = (nas.load(tmp_path / "out" / n) for n in ("best", "own", "front-2"))
    assert {n: t.tolist() for n, t in own.state_dict().items()} == {n: t.tolist() for n, t in best.state_dict().items()}
    row = pd.read_csv(run / "front.csv").iloc[1]
    assert nas.evaluate(second, nas.load_task("digits")) == pytest.approx(row["accuracy"])
    assert f"front:2: net {row['id']}, {row['accuracy']:.2%} on validation" in result.out
    parameters = [sum(p.numel() for p in nas.load(tmp_path / "out" / n).parameters()) for n in ("smallest", "largest")]
    assert parameters == [1674, 26474]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arch", "front:99"], "front:99 is not on the front; front:1 to front:"),
        (["--arch", "front:0"], "front:0 is not on the front"),
        (["--arch", "bst"], "unknown architecture 'bst'; valid: best"),
        (["--arch", "gone.json"], "gone.json does not exist"),
        (["--arch", "best", "--format", "onx"], "unknown format 'onx'; valid: onnx"),
    ],
)
def test_extract_refuses(searched, tmp_path, arguments, said):
    result = nas_command("extract", "--run", searched[0], "--out", tmp_path / "out", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "out").exists()


def test_extract_believes_no_answer_that_has_changed(searched, tmp_path):
    run = shutil.copytree(searched[0], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    for name in ("front.csv", "report.html", "best/architecture.json", "best/model.safetensors", "answer.json"):
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        result = nas_command("extract", "--run", run, "--arch", "front:1", "--arch", "best")
        assert (result.code, result.out) == (2, "")
        assert f"{run / name} " in result.err
        (run / name).write_bytes(whole)
    (run / "answer.json").unlink()
    result = nas_command("extract", "--run", run, "--arch", "best")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "holds no whole answer (answer.json); search first" in result.err


def test_nets_of_files_with_the_same_name_do_not_meet(searched, tmp_path):
    names = []
    for folder, net in (("x", "largest"), ("y", "smallest")):
        (tmp_path / folder).mkdir()
        names += ["--arch", tmp_path / folder / "net.json"]
        space = run_folder.open_run(searched[0]).space
        names[-1].write_text((space.largest if net == "largest" else space.smallest).to_json())
    result = nas_command("extract", "--run", searched[0], *names, "--out", tmp_path / "out", "--format", "safetensors")
    assert result.code == 0, result.err
    ids = {
        nas.Architecture.from_json((p / "architecture.json").read_text()).id: p for p in (tmp_path / "out").iterdir()
    }
    assert {net: p.name for net, p in ids.items()} == {net: f"net-{net}" for net in ids}
    assert len(ids) == 2


def test_extract_names_the_nearest_gene(searched, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"widht": 16}))
    result = nas_command("extract", "--run", searched[0], "--arch", tmp_path / "mine.json")
    assert result.code == 2
    assert "unknown gene 'widht'; valid: width, " in result.err


def test_extract_overwrites_nothing_but_extracted_nets(searched, tmp_path):
    (tmp_path / "smallest").mkdir()
    (tmp_path / "smallest" / "thesis.txt").write_text("years of work")
    result = nas_command("extract", "--run", searched[0], "--arch", "smallest", "--out", tmp_path)
    assert result.code == 2
    assert (tmp_path / "smallest" / "thesis.txt").exists()


def test_health_prints_the_rank_correlation(searched):
    result = nas_command("health", searched[0], "--nets", 3, "--steps", 3)
    assert result.code == 0, result.err
    assert re.search(r"Kendall tau of inherited and alone: -?[01]\.\d\d", result.out)


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_the_machine_at_hand_is_measured(tmp_path, space, monkeypatch):
    """The answer's latency is measured; the calibration is kept, so that the second call searches the same study."""
    arguments = ["--run", tmp_path, "--space", space, "--steps", STEPS, "--evaluations", 12, "--budget", "95%"]
    monkeypatch.setattr(calibration, "_paced", lambda candidates: candidates.device)  # another pace, another study
    first = nas_command("search", "--target", "local-cpu", *arguments)
    assert first.code == 0, first.err
    assert re.search(r"latency +│ .*\(measured", first.out)
    rows = trials(tmp_path)
    assert nas_command("search", "--target", "local-cpu", *arguments).code == 0
    assert trials(tmp_path) == rows == 12


# Several targets


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_one_net_keeps_the_budget_of_every_target(searched, space):
    run, _ = searched
    targets = ("--target", "iphone-12", "--budget", "0.3ms")
    result = ask(run, space, "--budget", "0.5ms", *targets, "--json")
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    there = answer["costs"]["latency_ms on iphone-12"]
    assert there["high"] <= there["allowed"] == 0.3
    assert answer["latency"]["high"] <= answer["budget_ms"] == 0.5
    assert any(note.endswith("evaluated by earlier searches of this run, and not again.") for note in answer["notes"])


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_each_target_gets_a_net_of_its_own_and_they_share_evaluations(searched, space):
    run, _ = searched
    result = ask(run, space, "--target", "iphone-12", "--budget", "60%", "--each", "--json")
    assert result.code == 0, result.err
    first, second = json.loads(result.out)["answers"]
    assert Path(second["paths"]["best"]) == run / "iphone-12" / "best"
    assert (run / "iphone-12" / "best" / "architecture.json").exists()
    assert second["evaluations"] >= first["evaluations"] > EVALUATIONS  # what is known counts, too
    assert second["latency"]["value"] <= second["budget_ms"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--target", "t4", "--budget", "1ms", "--budget", "2ms", "--budget", "3ms"),
            "--budget is given 3 times for 2 targets; give it once",
        ),
        (("--target", "local-cpu"), "a target that is this machine comes first"),
        (("--target", "jetson-orin"), "each target can be given once, not jetson-orin, jetson-orin"),
    ],
)
def test_targets_that_do_not_go_together_are_one_sentence(searched, space, arguments, said):
    run, _ = searched
    result = ask(run, space, *arguments)
    assert result.code == 2
    assert said in result.err
