"""What quantization costs a hybrid net, convolutions and attention: plain min-max, the default, the choice by part.

    python scripts/bench_quantize_hybrid.py --run runs/hybrid [--steps 600] [--draws 5]

A net of 0.1 million parameters in the manner of MobileViT (Mehta and Rastegari 2022) is trained on Fashion-MNIST and
kept in the run folder; points of accuracy that are lost on the test split, over draws of the calibration images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import nas
from nas.search_space.quantization import Scheme, quantizable
from nas.supernet.quantize.post_training import SAMPLES, quantize
from nas.supernet.quantize.settings import PLAIN, PostTraining
from nas.tasks.metrics import accuracy

SCHEMES = ("w8a8", "w6a6", "w4a4")
WAYS = {
    "plain": PLAIN,
    "default": PostTraining(),
    "choose": PostTraining(choose=True),
    "choose, no RepQ": PostTraining(choose=True, reparameterized=False),
    "softmax powers": PostTraining(softmax="log_sqrt2"),
    "softmax even": PostTraining(softmax="uniform"),
}


class Inverted(nn.Module):
    """Expansion, depthwise convolution, projection (MobileNetV2); a batch norm comes straight before the first."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm, self.up = nn.BatchNorm2d(width), nn.Conv2d(width, 4 * width, 1)
        self.inner, self.depth = (
            nn.BatchNorm2d(4 * width),
            nn.Conv2d(4 * width, 4 * width, 3, stride, 1, groups=4 * width),
        )
        self.down = nn.Conv2d(4 * width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.silu(self.depth(F.silu(self.inner(self.up(self.norm(x)))))))
        return x + y if y.shape == x.shape else y


class Block(nn.Module):
    """A layer of a transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.silu(self.up(self.norm2(x))))


class Hybrid(nn.Module):
    """Convolutions, tokens of every pixel of their map, and a convolution again."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width // 4, 3, 2, 1)
        self.local = nn.Sequential(Inverted(width // 4, width // 2, 1), Inverted(width // 2, width // 2, 2))
        self.into = nn.Conv2d(width // 2, width, 1)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4), nn.LayerNorm(width))
        self.back = nn.Conv2d(width, width, 1)
        self.last, self.norm, self.head = Inverted(width, width, 1), nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(self.local(self.stem(x)))
        tokens = self.blocks(x.flatten(2).transpose(1, 2))
        y: Tensor = self.head(self.norm(self.last(x + self.back(tokens.transpose(1, 2).view(x.shape)))).mean((2, 3)))
        return y


def trained(task: nas.Task, steps: int, file: Path | None = None) -> nn.Module:
    """The net after that many batches of 64 images, or as it lies in the file."""
    torch.manual_seed(0)
    net = Hybrid()
    if file is not None and file.exists():
        net.load_state_dict(load_file(file))
        return net.eval()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        inputs, labels = task.batch(step, 64, seed=0)
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(net.state_dict(), file)
    return net.eval()


def with_scheme(net: nn.Module, scheme: str) -> nn.Module:
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net


def lost(net: nn.Module, task: nas.Task, settings: PostTraining, draws: int) -> tuple[list[float], list[float]]:
    """For each draw of calibration images: points of the test split, and the error of the answers in percent."""
    images, labels = task.test.inputs, task.test.targets
    with torch.no_grad():
        expected = net(images)
    points, errors = [], []
    for seed in range(draws):
        inputs, _ = task.batch(0, SAMPLES, seed=seed, augment=False)
        with torch.no_grad():
            outputs = quantize(net, inputs, settings).module(images)
        points.append(100 * (accuracy(expected, labels) - accuracy(outputs, labels)))
        errors.append(100 * float((outputs - expected).norm() / expected.norm()))
    return points, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10000, help="of the test split")
    args = parser.parse_args()
    task = nas.load_task("fashion-mnist").subset(test=args.samples)
    net = trained(task, args.steps, args.run / "hybrid.safetensors")
    size = sum(p.numel() for p in net.parameters())
    print(f"{size:,} parameters, {100 * nas.evaluate(net, task, 'test'):.2f} % of test", flush=True)
    for scheme in SCHEMES:
        for way, settings in WAYS.items():
            points, errors = lost(with_scheme(net, scheme), task, settings, args.draws)
            text = f"{np.mean(points):7.2f} +- {np.std(points):.2f} points lost, answers off by {np.mean(errors):.1f} %"
            print(f"  {scheme:6}{way:22}{text}", flush=True)


if __name__ == "__main__":
    main()
