"""A language model in few bits, as ONNX Runtime runs it: loss on held-out text, seconds of a window, bytes of the file.

python scripts/bench_quantize_lm.py --model smollm2 --schemes float w8a8d w4a16

Calibrated on windows of other files of Python's standard library. One thread, CPU seconds. "onnxruntime" is its own
dynamic quantizer (8 bits), which is given our float file.
"""

import argparse
import resource
import sysconfig
import time
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

import nas
from nas.supernet.adopt.source import load_tokenizer, source_of

WINDOW = 256


def windows(tokenizer: Any, n: int, held_out: bool) -> torch.Tensor:
    """(n, WINDOW + 1) tokens from the middle of whole files, a tenth of which is held out."""
    rows: list[list[int]] = []
    for path in sorted(
        Path(sysconfig.get_paths()["stdlib"]).glob("*.py"), key=lambda p: sha256(p.name.encode()).digest()
    ):
        if (sha256(path.name.encode()).digest()[0] % 10 == 0) != held_out:
            continue
        ids = tokenizer(path.read_text(errors="ignore")[: 8 * WINDOW])["input_ids"]
        if len(ids) > WINDOW and len(rows) < n:
            rows.append(ids[-WINDOW - 1 :])
    return torch.tensor(rows)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measured(path: Path, rows: torch.Tensor) -> tuple[float, float]:
    """(nats a token, the median CPU seconds of a window)."""
    session, losses, seconds = session_of(path), [], []
    for row in rows:
        start = time.process_time()
        (logits, *_) = session.run(None, {"input_ids": row[None, :-1].numpy()})
        seconds.append(time.process_time() - start)
        losses.append(float(torch.nn.functional.cross_entropy(torch.from_numpy(logits[0]), row[1:])))
    return float(np.mean(losses)), float(np.median(seconds))


def exported(supernet: nas.Supernet, scheme: str, rows: torch.Tensor, folder: Path) -> Path:
    space = supernet.space
    if scheme == "float":
        net: Any = supernet.extract(space.largest)
    else:
        quantized = space.quantized(schemes=[scheme], granularity="linear")
        net = nas.quantize(supernet.serving(quantized).extract(quantized.largest), {"input_ids": rows[:, :-1]})
    return nas.export(net, {"input_ids": rows[:1, :-1]}, folder, ["onnx-fixed"])["onnx-fixed"]


def by_onnxruntime(floats: Path) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    path = floats.with_name("dynamic.onnx")
    quantize_dynamic(floats, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--schemes", nargs="+", default=["float", "w8a8d", "w4a16", "onnxruntime"])
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--calibration", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(source_of(arguments.model))
    test, calibration = windows(tokenizer, arguments.windows, True), windows(tokenizer, arguments.calibration, False)
    supernet = nas.adopt(arguments.model, ffn=(1.0,), heads=(1.0,), group=(1.0,))
    table = Table("scheme", "nats a token", "tokens a CPU s", "MB", "CPU s to quantize and write", "peak GiB")
    with TemporaryDirectory() as folder:
        for scheme in arguments.schemes:
            start = time.process_time()
            if scheme == "onnxruntime":
                path = by_onnxruntime(Path(folder) / "float" / "model-fixed.onnx")
            else:
                path = exported(supernet, scheme, calibration, Path(folder) / scheme)
            took = time.process_time() - start
            loss, seconds = measured(path, test)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            size = f"{path.stat().st_size / 1e6:.0f}"
            table.add_row(scheme, f"{loss:.4f}", f"{WINDOW / seconds:.0f}", size, f"{took:.0f}", f"{peak:.1f}")
            print(scheme, loss, seconds, size, f"{took:.0f} s", f"{peak:.1f} GiB", flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
