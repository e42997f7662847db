"""A bundle, its script in another process, and what comes home: made a profile, or refused with the reason."""

import json
import os
import stat
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nas_command import nas_command, tiny_space

from nas.errors import UserError
from nas.files import sealed
from nas.hw_profiles import load_device
from nas.hw_profiles.measuring import choosing
from nas.hw_profiles.measuring.pool import Inputs
from nas.hw_profiles.measuring.timing import Protocol
from nas.hw_profiles.remote import ingest, pack, run_on_host
from nas.hw_profiles.remote.bundle import read_bundle
from nas.hw_profiles.remote.pack import script
from nas.search_space.transformer import TransformerSpace

TINY = TransformerSpace(
    patch=4, width=(16, 32), layers=3, least_layers=1, mixer=("softmax", "pool"), ffn_ratio=(0.5, 1.0)
)
QUICK = Protocol(seconds=0.02, least_repeats=3, most_repeats=30, least_turns=1, turn_seconds=1e-4, slow=99)
INPUTS = Inputs((1, 8, 8))


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "POOL", 40)


def packed(path: Path, seed: int = 0) -> Path:
    return pack(load_device("local-cpu"), TINY, path, inputs=INPUTS, nets=6, protocol=QUICK, seed=seed)


def run_script(folder: Path, *arguments: str, python: str = sys.executable, **environment: str) -> Any:
    """The bundle's script, in a process that knows nothing of this package."""
    command = [python, "-I", str(folder / "run.py"), *arguments]
    settings = os.environ | environment
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(bundle, folder of the target with results.json)."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "POOL", 40)
        bundle = packed(home / "bundle.zip")
    folder = tmp_path_factory.mktemp("far")
    zipfile.ZipFile(bundle).extractall(folder)
    ended = run_script(folder)
    assert ended.returncode == 0, ended.stderr
    assert "ETA" in ended.stdout
    return bundle, folder


def test_the_round_trip_makes_a_profile(far: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = far
    device = ingest(folder / "results.json", bundle, tmp_path / "my-board.yaml", like=load_device("core-i7-12700h"))
    assert (device.name, device.runtime.name, device.unit) == ("my-board", "onnxruntime", "CPU, 1 thread")
    assert len(device.nets) == 6
    assert not device.measurable
    assert device.error is not None
    assert device.error.tier == "B"
    assert device.error.noise is not None
    assert any(note.startswith("cpu: ") for note in device.notes)
    assert device.spec == load_device("core-i7-12700h").spec
    loaded = load_device(tmp_path / "my-board.yaml")
    manifest, _ = read_bundle(bundle)
    assert loaded.latency(manifest.nets[0].traced()) == device.latency(manifest.nets[0].traced())


def test_a_bundle_is_the_same_bytes_every_time(far: tuple[Path, Path], tmp_path: Path) -> None:
    again = packed(tmp_path / "again.zip")
    assert sha256(again.read_bytes()).digest() == sha256(far[0].read_bytes()).digest()


def test_the_script_is_one_file_without_ties(far: tuple[Path, Path]) -> None:
    text = (far[1] / "run.py").read_text()
    assert text == script()
    compile(text, "run.py", "exec")
    assert "from .." not in text
    assert "import torch" not in text


def test_the_script_goes_on_where_it_stopped(far: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = far
    zipfile.ZipFile(bundle).extractall(tmp_path)
    whole = json.loads((folder / "results.json").read_text())
    head = {name: whole[name] for name in ("format", "bundle", "runtime", "version", "threads", "precision")}
    marked = whole["batches"][:1]
    marked[0]["seconds"] = 12345.0
    (tmp_path / "results.part.json").write_text(json.dumps(head | {"batches": marked}))
    assert run_script(tmp_path).returncode == 0
    assert json.loads((tmp_path / "results.json").read_text())["batches"][0]["seconds"] == 12345.0
    assert not (tmp_path / "results.part.json").exists()


def test_the_script_refuses_a_file_that_was_changed(far: tuple[Path, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(far[0]).extractall(tmp_path)
    net = next((tmp_path / "nets").iterdir())
    net.write_bytes(net.read_bytes()[:-1] + b"x")
    ended = run_script(tmp_path)
    assert ended.returncode == 1
    assert "is not the file that was packed" in ended.stderr


# What is refused


def signed(results: dict[str, Any]) -> str:
    """The results with a checksum that holds, as one who can read the script could make it."""
    plain = {name: value for name, value in results.items() if name != "checksum"}
    digest = sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return json.dumps(plain | {"checksum": digest})


def changed(edit: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        content = json.loads(text)
        edit(content)
        return signed(content)

    return apply


def first_net(content: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(content, "batches")[0]["nets"][0]  # type: ignore[no-any-return]


def duplicate(content: dict[str, Any]) -> None:
    nets = content["batches"][0]["nets"]
    nets[1] = dict(nets[0])


def another_net(content: dict[str, Any]) -> None:
    content["sha256"][next(iter(content["sha256"]))] = "0" * 64


REFUSED = {
    "tampered": (lambda text: text.replace('"threads": 1', '"threads": 2'), "its checksum does not hold"),
    "truncated": (lambda text: text[: len(text) // 2], "cut off on its way"),
    "unfinished": (lambda _: json.dumps({"batches": []}), "has no checksum; bring results.json"),
    "foreign": (changed(lambda c: c.update(bundle="0" * 64)), "of another bundle"),
    "other files": (changed(another_net), "are not those of the bundle"),
    "duplicate": (changed(duplicate), "timed twice or was not asked for"),
    "too few": (changed(lambda c: c["batches"][0]["nets"].pop()), "results are of 5 of 6 nets; let run.py finish"),
    "infinite": (changed(lambda c: first_net(c).update(median_ms=float("inf"))), "Infinity is not a finite number"),
    "no number": (changed(lambda c: first_net(c).update(p95_ms=float("nan"))), "NaN is not a finite number"),
    "negative": (changed(lambda c: first_net(c).update(median_ms=-1.0)), "greater than 0"),
    "another format": (changed(lambda c: c.update(format=2)), "format: Input should be 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_doubtful_results_are_refused_with_the_reason(far: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    bundle, folder = far
    edit, said = REFUSED[case]
    path = tmp_path / "results.json"
    path.write_text(edit((folder / "results.json").read_text()))
    with pytest.raises(UserError, match=said):
        ingest(path, bundle, tmp_path / "board.yaml")
    assert not (tmp_path / "board.yaml").exists()


def test_a_damaged_bundle_is_refused(far: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = far
    damaged = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(damaged, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + (b"x" if name.endswith(".onnx") else b""))
    with pytest.raises(UserError, match="is not the file that was packed"):
        ingest(folder / "results.json", damaged, tmp_path / "board.yaml")
    damaged.write_text("no zip")
    with pytest.raises(UserError, match="is not a bundle"):
        ingest(folder / "results.json", damaged, tmp_path / "board.yaml")


def another_reference(manifest: dict[str, Any]) -> None:
    manifest["reference"] = next(net["id"] for net in manifest["nets"] if net["id"] != manifest["reference"])


MANIFESTS = {
    "changed": (
        lambda m: m["nets"][0]["cost"].update(params=7),
        False,
        "manifest.json was changed after it was written",
    ),
    "another net": (another_reference, True, "the reference is .* but the net of the middle cost is"),
    "no net": (
        lambda m: m.update(reference="12.5"),
        True,
        "the reference is '12.5', but the net of the middle cost is",
    ),
    "no nets": (lambda m: m.update(nets=[]), True, "nets: List should have at least 1 item"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_not_the_packed_one_is_refused(far: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    """Also where the results were made to fit it, as one who can read the script could."""
    edit, seal, said = MANIFESTS[case]
    bundle, folder = far
    forged, results = tmp_path / "bundle.zip", tmp_path / "results.json"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(forged, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        edit(manifest)
        raw = json.dumps(sealed(manifest) if seal else manifest)
        for name in old.namelist():
            new.writestr(name, raw if name == "manifest.json" else old.read(name))
    fit = changed(lambda c: c.update(bundle=sha256(raw.encode()).hexdigest()))
    results.write_text(fit((folder / "results.json").read_text()))
    with pytest.raises(UserError, match=said):
        ingest(results, forged, tmp_path / "board.yaml")
    assert not (tmp_path / "board.yaml").exists()


@pytest.mark.parametrize("like", [None, "core-i7-12700h"])
def test_numbers_that_beat_the_roofline_are_marked_and_not_fitted(
    far: tuple[Path, Path], tmp_path: Path, like: str | None
) -> None:
    bundle, folder = far
    path = tmp_path / "results.json"
    path.write_text(changed(lambda c: first_net(c).update(median_ms=1e-7))((folder / "results.json").read_text()))
    device = ingest(path, bundle, tmp_path / "board.yaml", like=load_device(like) if like else None)
    beaten = [net for net in device.nets if net.implausible]
    assert len(beaten) == 1
    assert "beats" in str(beaten[0].implausible)
    assert any(note.startswith("Left out of the fit") and beaten[0].model in note for note in device.notes)
    assert device.calibration is not None
    assert len(device.calibration.fitted) == 5


# Other ways there


def fake(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


TRTEXEC = """#!/bin/sh
for given in "$@"; do case $given in
--help) echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --help";;
--saveEngine=*) echo engine > "${given#*=}";;
--exportTimes=*) echo '[{"latencyMs": 1.0}, {"latencyMs": 1.1}, {"latencyMs": 1.2}]' > "${given#*=}";;
esac; done
"""


def test_trtexec_times_the_nets(far: tuple[Path, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(far[0]).extractall(tmp_path)
    fake(tmp_path, "trtexec", TRTEXEC)
    ended = run_script(tmp_path, "--runtime", "trtexec", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stderr
    device = ingest(tmp_path / "results.json", far[0], tmp_path / "board.yaml")
    assert (device.runtime.name, device.runtime.version, device.unit) == ("tensorrt", "v8601", "GPU")
    assert [net.period_ms for net in device.nets] == pytest.approx([1.1] * 6)


SSH = """#!/bin/sh
[ "$1" = user@box ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }
mkdir -p "$FAR" && cd "$FAR" && sh -c "$2"
"""
SCP = """#!/bin/sh
far() { case $1 in user@box:*) echo "$FAR/${1#*:}";; *) echo "$1";; esac; }
cp "$(far "$2")" "$(far "$3")"
"""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    fake(tmp_path / "bin", "ssh", SSH)
    fake(tmp_path / "bin", "scp", SCP)
    monkeypatch.setenv("FAR", str(tmp_path / "box"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.usefixtures("fake_ssh")
def test_a_host_runs_the_bundle_over_ssh(far: tuple[Path, Path], tmp_path: Path) -> None:
    results = run_on_host("user@box", far[0], tmp_path / "results.json", python=sys.executable)
    assert len(ingest(results, far[0], tmp_path / "board.yaml").nets) == 6
    with pytest.raises(UserError, match="the host me@nowhere cannot be reached: ssh: Could not resolve"):
        run_on_host("me@nowhere", far[0], tmp_path / "results.json")


def test_without_ssh_it_says_what_to_do(far: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ssh is not installed here; copy the bundle by hand"):
        run_on_host("user@box", far[0], tmp_path / "results.json")


def test_the_commands_pack_and_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.hw_profiles.remote import pack as pack_function

    module = sys.modules[pack_function.__module__]
    monkeypatch.setattr(module.pack, "__kwdefaults__", module.pack.__kwdefaults__ | {"protocol": QUICK})
    bundle, out = tmp_path / "bundle.zip", tmp_path / "board.yaml"
    packing = nas_command("profile", "pack", "--out", bundle, "--space", tiny_space(tmp_path), "--nets", 5)
    assert packing.code == 0, packing.err
    assert "python3 run.py" in packing.out
    zipfile.ZipFile(bundle).extractall(tmp_path / "far")
    assert run_script(tmp_path / "far").returncode == 0
    done = nas_command("profile", "ingest", tmp_path / "far" / "results.json", "--bundle", bundle, "--out", out)
    assert done.code == 0, done.err
    assert "B, measured" in done.out
    refused = nas_command("profile", "ingest", tmp_path / "nothing.json", "--bundle", bundle, "--out", out)
    assert refused.code == 2
    assert "nothing.json cannot be read" in refused.err


@pytest.mark.slow
def test_a_target_that_has_only_onnxruntime(far: tuple[Path, Path], tmp_path: Path) -> None:
    """A fresh virtual environment, as a user would make it on a board."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    installing = subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime"], capture_output=True, text=True)
    if installing.returncode:
        pytest.skip(f"pip cannot install onnxruntime: {installing.stderr[-200:]}")
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert "torch" not in listed
    zipfile.ZipFile(far[0]).extractall(tmp_path / "far")
    ended = run_script(tmp_path / "far", python=python)
    assert ended.returncode == 0, ended.stderr
    here = {net.model: net.period_ms for net in ingest(far[1] / "results.json", far[0], tmp_path / "a.yaml").nets}
    there = {
        net.model: net.period_ms for net in ingest(tmp_path / "far" / "results.json", far[0], tmp_path / "b.yaml").nets
    }
    ratios = [there[net] / here[net] for net in here]
    assert np.median(ratios) == pytest.approx(1, rel=0.5)
