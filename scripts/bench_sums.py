"""8-bit files with unsigned and with signed weights, on the processor at hand: what they compute and how fast.

    python scripts/bench_sums.py [--seconds 4]

On x86 processors without VNNI the sums of signed weights saturate. Accuracy: nets trained on digits, as they were
evaluated and as each file computes it without any setting. Speed: untrained nets for images of 28 x 28, width 384, in
turns in ONNX Runtime on one thread.
"""

import argparse
import tempfile
from pathlib import Path

import onnxruntime
import torch
from torch import nn

import nas
from nas.hw_profiles import Protocol, measure_all
from nas.hw_profiles.runtimes.onnxruntime import exact_sums
from nas.tasks.metrics import accuracy

TARGETS = {"unsigned": None, "signed": nas.load_device("core-i7-12700h")}
"""None: any processor."""


def mlp(_: object) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def evaluated(title: str, space: nas.SearchSpace, steps: int, folder: Path) -> None:
    """Of the test split."""
    task, quantized = nas.load_task("digits"), space.quantized(schemes=["w8a8"])
    floats, supernet = nas.Supernet(space), nas.Supernet(quantized)
    nas.train(floats, task, nas.Recipe(steps=steps))
    supernet.load_state_dict(floats.state_dict())
    net = nas.quantize(supernet.extract(quantized.largest), task.train.inputs[:32])
    images, targets = task.test.inputs, task.test.targets
    with torch.no_grad():
        expected = net.module.eval()(images)
    print(f"{title}: evaluated {accuracy(expected, targets):.2%}")
    for name, target in TARGETS.items():
        path = nas.export(net, task.example, folder / title / name, ["onnx"], target=target)["onnx"]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        same = (torch.from_numpy(scores).argmax(1) == expected.argmax(1)).double().mean()
        print(f"  {name} {accuracy(torch.from_numpy(scores), targets):.2%}, the same answer for {same:.2%}", flush=True)


def speed(ratio: float, seconds: float, folder: Path) -> None:
    options = nas.TransformerSpace(patch=4, width=384, layers=6, head_dim=64, kv_heads=6, ffn_ratio=(ratio,))
    space, x = nas.SearchSpace(options.bind((1, 28, 28), 10)), torch.rand(32, 1, 28, 28)
    quantized = space.quantized(schemes=["w8a8"])
    net = nas.quantize(nas.Supernet(quantized).extract(quantized.largest), x)
    files = {"float": nas.export(nas.Supernet(space).extract(space.largest), x[:1], folder, ["onnx-fixed"])}
    for name, target in TARGETS.items():
        files[name] = nas.export(net, x[:1], folder / name, ["onnx-fixed"], target=target)
    pairs = [(paths["onnx-fixed"], x[:1]) for paths in files.values()]
    timed = measure_all(pairs, runtime="onnxruntime", threads=1, protocol=Protocol(seconds=seconds))
    for name, time in zip(files, timed, strict=True):
        faster = timed[0].median_ms / time.median_ms
        print(f"FFN ratio {ratio}, {name}: {time.median_ms:.3f} ms (noise {time.noise:.1%}) {faster:.2f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    args = parser.parse_args()
    print(f"sums of signed weights are {'exact' if exact_sums() else 'not exact'} here")
    with tempfile.TemporaryDirectory() as folder:
        for ratio in (0.25, 1):
            speed(ratio, args.seconds, Path(folder) / str(ratio))
        evaluated("mlp", nas.SearchSpace(mlp), 600, Path(folder))
        evaluated("vit-digits", nas.SearchSpace(nas.load_preset("vit-digits").bind((1, 8, 8), 10)), 600, Path(folder))


if __name__ == "__main__":
    main()
