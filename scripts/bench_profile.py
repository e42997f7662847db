"""How good is a profile of this machine? Nets measured by `nas profile`, then as many others, predicted and timed.

    python scripts/bench_profile.py [--nets 60] [--runtime onnxruntime]

Spaces: the default transformer space on digits and a staged convolutional one. Printed for each and for both in one
profile: minutes, the machine's pace (what some nets of the profile, timed once more among those held out, take now over
what they took then; it is divided out), error of nets held out, Kendall tau, the share within 10 %, and how often and
how closely the 90 % interval held.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn

import nas
from nas.hw_profiles import Protocol, measure_all
from nas.hw_profiles.measuring.profile import Setting

SHAPE = (1, 8, 8)
ANCHORS = 8
"""Nets of the profile that are timed once more."""


def staged(trial: Any) -> nn.Module:
    """Three stages of convolutions with elastic widths, depths and kernels, then a linear readout."""
    layers: list[nn.Module] = []
    channels = SHAPE[0]
    for stage, widths in enumerate(([16, 24, 32], [32, 48, 64], [64, 96, 128])):
        width = trial.suggest_categorical(f"{stage}.width", widths)
        depth = trial.suggest_int(f"{stage}.depth", 1, 3)
        kernel = trial.suggest_categorical(f"{stage}.kernel", [3, 5])
        for i in range(depth):
            stride = 2 if stage and i == 0 else 1
            layers += [nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def evaluate(spaces: list[nas.SearchSpace], nets: int, setting: Setting) -> str:
    start = time.time()
    device = nas.profile("local-cpu", spaces, nets, setting=setting, input_shape=SHAPE)
    minutes = (time.time() - start) / 60
    points = {point.model: point for point in device.nets}
    again = [points[name] for name in sorted(points)[:ANCHORS]]
    anchors = [(spaces[int(p.group.removeprefix("space-")) - 1], nas.Architecture(p.architecture or {})) for p in again]
    rng, held = np.random.default_rng(0), {}
    while len(held) < nets:
        space = spaces[rng.integers(len(spaces))]
        architecture = space.sample(rng)
        if architecture.id not in points:
            held[architecture] = space
    example = torch.zeros(1, *SHAPE)
    modules = [space.build(a).eval() for space, a in [*anchors, *((s, a) for a, s in held.items())]]
    how = {"runtime": setting.runtime, "threads": setting.threads, "protocol": Protocol(seconds=1.0, quiet=True)}
    now = np.array([m.median_ms for m in measure_all([(module, example) for module in modules], **how)])
    pace = float(np.median(now[:ANCHORS] / [p.period_ms for p in again]))
    true = now[ANCHORS:] / pace
    estimates = [device.latency(module, example) for module in modules[ANCHORS:]]
    mean = np.array([x.value for x in estimates])
    off = np.abs(mean / true - 1)
    inside = np.mean([x.low <= t <= x.high for x, t in zip(estimates, true, strict=True)])
    return (
        f"{minutes:7.1f} {pace:5.2f} {100 * off.mean():7.1f} {kendalltau(mean, true)[0]:6.3f} "
        f"{np.mean(off <= 0.1):10.0%} {inside:9.0%} {np.median([x.high / x.value for x in estimates]):7.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--runtime", default="onnxruntime")
    args = parser.parse_args()
    vit = nas.SearchSpace(nas.load_preset("vit-digits").bind(input_shape=SHAPE, classes=10))
    cnn = nas.SearchSpace(staged)
    print(f"{'space':14} minutes  pace  MAPE %    tau  within 10%  coverage  factor")
    for name, spaces in {"vit-digits": [vit], "staged": [cnn], "both": [vit, cnn]}.items():
        print(f"{name:14} {evaluate(spaces, args.nets, Setting(args.runtime))}", flush=True)


if __name__ == "__main__":
    main()
