"""What quantization gains and costs: speed and file sizes, accuracy, agreement of files with what was evaluated.

    python scripts/bench_quantize.py --run runs/quantize [--parts speed accuracy agreement] [--steps 2500] [--draws 3]

speed: untrained Fashion-MNIST nets of width 384, quantized against float, timed in turns in ONNX Runtime; their files.
accuracy: nets of a supernet (trained first, kept in the run folder) in several precisions, each quantized in several
ways; points of validation accuracy that are lost, over draws of the 32 calibration images. agreement: random nets with
random policies, top-1 of the ONNX file against the module that was evaluated, on the test split.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import nas
from nas.hw_profiles import Protocol, measure_all
from nas.search_space.quantization import GENE, Scheme
from nas.supernet.quantize import norms
from nas.supernet.quantize.norms import GAIN
from nas.supernet.quantize.post_training import SAMPLES, quantize
from nas.supernet.quantize.settings import PLAIN, PostTraining
from nas.supernet.shipped import quantized_for

WIDE = nas.TransformerSpace(patch=4, width=384, layers=6, head_dim=64, kv_heads=6)
PRESET = nas.load_preset("vit-fashion")
FORMATS = ("onnx", "onnx-fixed", "safetensors")
SCHEMES = ("w8a8", "w6a6", "w4a16", "w4a8", "w4a4")
WAYS = {
    "plain": (PLAIN, GAIN),
    "default": (PostTraining(), GAIN),
    "no RepQ": (PostTraining(reparameterized=False), GAIN),
    "RepQ always": (PostTraining(), np.inf),
    "min_max": (PostTraining("min_max"), GAIN),
    "softmax even": (PostTraining(softmax="uniform"), GAIN),
    "softmax powers": (PostTraining(softmax="log_sqrt2"), GAIN),
    "choose": (PostTraining(choose=True), GAIN),
}
"""Settings, and the share of their error below which the outputs of norms get a scale for each channel."""


def supernets(
    task: nas.Task, options: nas.TransformerSpace, schemes: Sequence[str] | None = None, steps: int = 0, run: Any = None
) -> tuple[nas.Supernet, nas.Supernet]:
    """Of floats (trained, if there are steps), and of the space with policies, with the same weights."""
    space = nas.SearchSpace(options.bind(input_shape=task.input_shape, classes=task.classes))
    floats, quantized = nas.Supernet(space), nas.Supernet(space.quantized(schemes=schemes))
    if steps:
        nas.train(floats, task, nas.Recipe(steps=steps), run=run)
    quantized.load_state_dict(floats.state_dict())
    return floats.eval(), quantized.eval()


def uniform(space: nas.SearchSpace, net: Mapping[str, Any], scheme: str) -> nas.Architecture:
    """The net with one scheme everywhere."""
    return space.architecture({**{g: Scheme.parse(scheme).text for g in space.genes if g.startswith(GENE)}, **net})


def speed(task: nas.Task) -> None:
    for ratio in (0.25, 1):
        floats, quantized = supernets(task, WIDE.model_copy(update={"ffn_ratio": (ratio,)}), ["w8a8", "w4a16"])
        net = floats.space.largest
        shipped: dict[str, Any] = {"float": floats.extract(net)}
        for scheme in ("w8a8", "w4a16"):
            shipped[scheme] = quantized_for(quantized.extract(uniform(quantized.space, net, scheme)), task)
        with tempfile.TemporaryDirectory() as folder:
            files = {n: nas.export(m, task.example, Path(folder) / n, FORMATS) for n, m in shipped.items()}
            compare(f"ffn_ratio {ratio}", files, task)


def compare(title: str, files: Mapping[str, Mapping[str, Path]], task: nas.Task) -> None:
    for name, paths in files.items():
        sizes = [(kind, path.stat().st_size, files["float"][kind].stat().st_size) for kind, path in paths.items()]
        print(title, name, "  ".join(f"{kind} {size:,} bytes {of / size:.2f}x" for kind, size, of in sizes), flush=True)
    for threads in (1, 2):
        pairs: list[Any] = [(paths["onnx-fixed"], task.example) for paths in files.values()]
        timed = measure_all(pairs, runtime="onnxruntime", threads=threads, protocol=Protocol(seconds=4))
        for name, t in zip(files, timed, strict=True):
            faster = timed[0].median_ms / t.median_ms
            print(
                f"{title} {name}, {threads} threads: {t.median_ms:.3f} ms (noise {t.noise:.1%}) {faster:.2f}x",
                flush=True,
            )


def accuracy(task: nas.Task, floats: nas.Supernet, quantized: nas.Supernet, args: argparse.Namespace) -> None:
    part, space = task.subset(validation=args.samples), quantized.space
    sampled = [floats.space.sample(seed) for seed in (3, 5, 7)]
    for net in (floats.space.largest, floats.space.smallest, *sampled)[: args.most]:
        whole, test = (nas.evaluate_subnet(floats, part, net, split) for split in ("validation", "test"))
        print(
            f"net {net.id}: {100 * whole:.2f} % of {args.samples} validation images, {100 * test:.2f} % of test",
            flush=True,
        )
        for scheme in args.schemes:
            module = quantized.extract(uniform(space, net, scheme))
            for way, (settings, norms.GAIN) in WAYS.items():
                lost = [100 * (whole - drawn(module, part, settings, seed)) for seed in range(args.draws)]
                print(f"  {scheme:6}{way:17}{np.mean(lost):7.2f} +- {np.std(lost):.2f}  points lost", flush=True)
    norms.GAIN = GAIN


def drawn(module: Any, task: nas.Task, settings: PostTraining, seed: int) -> float:
    inputs, _ = task.batch(0, SAMPLES, seed=seed, augment=False)
    return nas.evaluate(quantize(module, inputs, settings).module, task)


def agreement(task: nas.Task, quantized: nas.Supernet, nets: int) -> None:
    shares = []
    for seed in range(nets):
        shipped = quantized_for(quantized.extract(quantized.space.sample(seed)), task)
        with tempfile.TemporaryDirectory() as folder:
            (path,) = nas.export(shipped, task.example, folder, ["onnx"]).values()
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        with torch.no_grad():
            ours = shipped.module(task.test.inputs)
        theirs = [session.run(None, {name: x.numpy()})[0] for x, _ in task.test.batches(256)]
        shares.append(100 * float((ours.argmax(1).numpy() == np.concatenate(theirs).argmax(1)).mean()))
        print(f"  policy {seed}: {shares[-1]:.2f} % of {len(ours)} test images have the same top-1", flush=True)
    print(
        f"agreement of {nets} policies: mean {np.mean(shares):.2f} %, least {min(shares):.2f} % (goal 99.5)", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["speed", "accuracy", "agreement"])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--most", type=int, default=5, help="nets whose accuracy is looked at")
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--nets", type=int, default=20, help="nets whose files are looked at")
    args = parser.parse_args()
    task = nas.load_task("fashion-mnist")
    if "speed" in args.parts:
        speed(task)
    if "accuracy" in args.parts:
        accuracy(task, *supernets(task, PRESET, SCHEMES, args.steps, args.run / "supernet"), args)
    if "agreement" in args.parts:
        agreement(task, supernets(task, PRESET, None, args.steps, args.run / "supernet")[1], args.nets)


if __name__ == "__main__":
    main()
