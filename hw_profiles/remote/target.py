"""The target's script: times the nets of a bundle and writes results.json. It needs numpy, and onnxruntime or trtexec.

`nas profile pack` puts the text of `timing.py` in the place of its import and calls the whole run.py. Python >= 3.8.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..measuring.timing import Measurement, Protocol, Series, Turn, time_in_turns

HERE = Path(__file__).resolve().parent
TRTEXEC_TURNS = 3
"""trtexec times one net in a process of its own: a turn is a whole run of it."""
if TYPE_CHECKING:
    Json = dict[str, Any]

# Runtimes: (version, function from the nets of a batch and the reference to their measurements)


class OnnxRuntime:
    """ONNX Runtime's CPU provider, as the project times it at home."""

    name = "onnxruntime"

    def __init__(self, manifest: Json, threads: int) -> None:
        import onnxruntime

        self.ort, self.threads, self.protocol = onnxruntime, threads, Protocol(**manifest["protocol"])

    def version(self) -> str:
        return str(self.ort.__version__)

    def time(
        self, nets: Sequence[Json], reference: Json, fastest_ms: float, progress: Callable[[float], None]
    ) -> list[Measurement]:
        calls, beside = [self._prepare(net) for net in nets], self._prepare(reference)
        result, reference_took = time_in_turns(calls, beside, self.protocol, fastest_ms=fastest_ms, progress=progress)
        return [*result, reference_took]

    def _prepare(self, net: Json) -> Callable[[], object]:
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.execution_mode = self.ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if self.threads > 1 else "1")
        options.log_severity_level = 3
        path, provider = str(HERE / net["file"]), ["CPUExecutionProvider"]
        session = self.ort.InferenceSession(path, options, providers=provider)
        feed = {session.get_inputs()[0].name: _noise(net)}
        return lambda: session.run(None, feed)


class TrtExec:
    """TensorRT's own command, found on the PATH; engines are built once and kept in engines/."""

    name = "tensorrt"

    def __init__(self, manifest: Json) -> None:
        self.flags = {"fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}.get(manifest["precision"], ["--noTF32"])

    def version(self) -> str:
        output = subprocess.run(["trtexec", "--help"], capture_output=True, text=True).stdout
        result = re.search(r"TensorRT v([0-9.]+)", output)
        return "v" + result.group(1) if result else "not stated by trtexec"

    def time(
        self, nets: Sequence[Json], reference: Json, fastest_ms: float, progress: Callable[[float], None]
    ) -> list[Measurement]:
        del fastest_ms  # a GPU has no neighbours
        series = [Series(lambda: None) for _ in range(len(nets) + 1)]
        for turn in range(TRTEXEC_TURNS):
            for i, net in enumerate([*nets, reference]):
                series[i].turns.append(Turn(self._turn(net), []))
                progress((turn * len(series) + i + 1) / (TRTEXEC_TURNS * len(series)))
        return [s.summary() for s in series]

    def _turn(self, net: Json) -> list[float]:
        """Seconds of the inferences of one run, with the copies of inputs and outputs."""
        engine = HERE / "engines" / (net["sha256"][:16] + ".engine")
        engine.parent.mkdir(exist_ok=True)
        if not engine.exists():
            self._run(f"--onnx={HERE / net['file']}", f"--saveEngine={engine}", "--skipInference")
        with tempfile.TemporaryDirectory() as folder:
            times = Path(folder) / "times.json"
            self._run(f"--loadEngine={engine}", f"--exportTimes={times}", "--duration=1", "--warmUp=200")
            return [row["latencyMs"] / 1e3 for row in json.loads(times.read_text())]

    def _run(self, *arguments: str) -> None:
        ended = subprocess.run(["trtexec", *arguments, *self.flags], capture_output=True, text=True)
        if ended.returncode:
            sys.exit("trtexec failed:\n" + "\n".join((ended.stdout + ended.stderr).splitlines()[-5:]))


def _noise(net: Json) -> Any:
    rng = np.random.default_rng(0)
    if net["dtype"] == "float32":
        return rng.random(net["shape"], dtype=np.float32)
    return rng.integers(0, net["top"], net["shape"]).astype(net["dtype"])


# What is known of the machine


def environment() -> Json:
    """Clocks, power mode, load and versions, as far as they can be read without rights."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    names = ("governor", "cur_freq", "max_freq", "min_freq")
    results = {
        "machine": _read("/proc/device-tree/model") or platform.machine(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": list(os.getloadavg()) if sys.platform != "win32" else None,
        "power_mode": _output_of("nvpmodel", "-q"),
        "gpu": _output_of(
            "nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit", "--format=csv"
        ),
        "temperature": _read("/sys/class/thermal/thermal_zone0/temp"),
    }
    results.update({name: _read(cpu + "scaling_" + name) for name in names})
    return {name: value for name, value in results.items() if value not in (None, "")}


def _processor() -> str:
    lines = (_read("/proc/cpuinfo") or "").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "model\t"))]
    return next((name for name in names if len(name) > 3), platform.processor() or platform.machine())


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip("\0\n ")
    except (OSError, UnicodeDecodeError):
        return None


def _output_of(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


# The run


def checked(manifest: Json) -> dict[str, Json]:
    """The nets by id. Ends the script if a file is not the one that was packed."""
    for net in manifest["nets"]:
        path = HERE / net["file"]
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != net["sha256"]:
            sys.exit(f"{net['file']} is not the file that was packed; unpack the bundle again")
    return {net["id"]: net for net in manifest["nets"]}


def chosen(name: str, manifest: Json, threads: int) -> Any:
    """The runtime: onnxruntime where it is installed, else trtexec, unless one is named."""
    if name == "trtexec" or (name == "auto" and shutil.which("trtexec") and manifest["precision"] != "fp32"):
        return TrtExec(manifest)
    try:
        return OnnxRuntime(manifest, threads)
    except ImportError:
        if name == "auto" and shutil.which("trtexec"):
            return TrtExec(manifest)
        sys.exit("neither onnxruntime nor trtexec is here: `pip install onnxruntime`, or put trtexec on the PATH")


def todo(batches: list[Json], manifest: Json) -> Iterator[int]:
    """Numbers of the batches that are not there, and then, once, of those that were slow as a whole."""
    yield from range(len(batches), len(manifest["batches"]))
    bound = (1 + manifest["protocol"]["slow"]) * min(batch["reference_ms"] for batch in batches)
    yield from [number for number, batch in enumerate(batches) if batch["reference_ms"] > bound]


class Counted:
    """Progress with an estimate of the time that is left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.begun = total, 0, time.time()

    def show(self, share: float) -> None:
        done = self.done + share
        eta = (time.time() - self.begun) / max(done, 1e-3) * max(0.0, self.total - done)
        print(f"\rbatch {self.done + 1} of {self.total}, {share:4.0%}, ETA {eta:4.0f} s ", end="", flush=True)


def main() -> None:
    """Time every batch that is not in results.part.json yet, then write results.json."""
    parser = argparse.ArgumentParser(description="Time the nets of this bundle. Stop and start it as you like.")
    parser.add_argument("--runtime", default="auto", choices=["auto", "onnxruntime", "trtexec"])
    parser.add_argument("--out", default="results.json")
    options = parser.parse_args()
    raw = (HERE / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    nets, threads = checked(manifest), manifest["threads"]
    runtime = chosen(options.runtime, manifest, threads)
    head = {"format": 1, "bundle": hashlib.sha256(raw).hexdigest(), "runtime": runtime.name}
    head.update(version=runtime.version(), threads=threads, precision=manifest["precision"])
    part = Path(options.out).with_suffix(".part.json")
    batches = _begun(part, head)
    begun = Counted(len(manifest["batches"]) - len(batches))
    for number in todo(batches, manifest):
        batch = manifest["batches"][number]
        fastest, start = min((b["reference_ms"] for b in batches), default=inf), time.time()
        result = runtime.time([nets[i] for i in batch["nets"]], nets[manifest["reference"]], fastest, begun.show)
        begun.done += 1
        rows = [dict(vars(m), net=i, family=nets[i]["family"]) for i, m in zip(batch["nets"], result)]  # noqa: B905
        seconds, reference = time.time() - start, result[-1].median_ms
        row = {"nets": rows, "reference_ms": reference, "seconds": seconds, "again": batch["again"]}
        batches[number : number + 1] = [row]
        _write(part, dict(head, batches=batches))
    results = dict(head, environment=environment(), batches=batches, sha256={i: n["sha256"] for i, n in nets.items()})
    content = json.dumps(results, sort_keys=True).encode()
    _write(Path(options.out), dict(results, checksum=hashlib.sha256(content).hexdigest()))
    part.unlink()
    print(f"\n{options.out} is written; take it home: `nas profile ingest {options.out} --bundle bundle.zip`")


def _begun(part: Path, head: Json) -> list[Json]:
    """The batches of a run that was stopped, if it was of the same bundle, runtime and threads."""
    if not part.exists():
        return []
    result = json.loads(part.read_text())
    batches = result.pop("batches")
    return batches if result == head else []


def _write(path: Path, content: Json) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(content, indent=1))
    os.replace(beside, path)


if __name__ == "__main__":
    main()
