"""Quality of a language supernet per CPU second: a small GPT of bytes, trained by `nas.train` with its defaults.

    python scripts/bench_strategy.py --steps 1500 3000 [--seeds 0 1 2 3 4] [--sampling sandwich]

The net is litgpt's (RMSNorm, rotary positions, SwiGLU): widths 32 to 128, 1 to 4 heads and layers, hidden sizes 128 to
512; batches of 16 x 128 bytes of Python's standard library, drawn at random from the first nine tenths of 4 MB. Printed
for each seed: CPU seconds of `nas.train` and the validation losses (nats) of six nets, on the same 96 windows, and
their mean. The check of the space is not counted.
"""

import argparse
import json
import sysconfig
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nas

WIDTH, HEADS, HEAD, HIDDEN, LAYERS, VOCABULARY, LENGTH, BATCH = 128, 4, 32, 512, 4, 256, 128, 16
NETS = {  # width, heads, hidden, layers
    "min": (32, 1, 128, 1),
    "small": (64, 2, 256, 2),
    "mid": (96, 3, 384, 3),
    "wide-shallow": (128, 4, 512, 1),
    "narrow-deep": (32, 4, 512, 4),
    "max": (128, 4, 512, 4),
}


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width, 1e-5) for _ in range(2))
        self.q, self.k, self.v = (nas.Linear(width, (heads, HEAD), bias=False) for _ in range(3))
        self.o = nas.Linear((heads, HEAD), width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (-1, HEAD)).transpose(1, 2)

        def turned(y: Tensor) -> Tensor:
            a, b = y.chunk(2, -1)
            return y * cos + torch.cat([-b, a], -1) * sin

        z = self.norms[0](x)
        q, k, v = heads(self.q(z)), heads(self.k(z)), heads(self.v(z))
        y = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        z = self.norms[1](x)
        return x + self.down(F.silu(self.gate(z)) * self.up(z))


class Gpt(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY, bias=False)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, 1e-5)
        for name, p in self.named_parameters():
            if "norm" not in name:
                nn.init.normal_(p, std=0.02)
        angles = torch.outer(torch.arange(LENGTH), 1e4 ** -(torch.arange(0, HEAD, 2) / HEAD)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.table(x)
        for block in self.blocks:
            y = block(y, self.cos, self.sin)
        return self.head(self.norm(y))


def gpt(trial: Any) -> Gpt:
    return Gpt(
        trial.suggest_int("width", 32, WIDTH, step=32),
        trial.suggest_int("heads", 1, HEADS),
        trial.suggest_int("hidden", 128, HIDDEN, step=128),
        trial.suggest_int("layers", 1, LAYERS),
    )


def windows(text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes from each start, and after each the one that comes next."""
    places = starts[:, None] + torch.arange(LENGTH)
    return text[places], text[places + 1]


def task_of(size: int = 4_000_000) -> nas.Task:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = torch.frombuffer(bytearray(b"".join(f.read_bytes() for f in files)[:size]), dtype=torch.uint8).long()
    train, held_out = text[: int(0.9 * size)], text[int(0.9 * size) :]
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randint(len(held_out) - LENGTH - 1, (BATCH,), generator=generator) for _ in range(6)]
    return nas.Task.of(
        train=(train[:-1].unfold(0, LENGTH, 1), train[1:].unfold(0, LENGTH, 1)),  # views: every start is a sample
        validation=windows(held_out, torch.cat(starts)),
        outputs="tokens",
        vocabulary=VOCABULARY,
        batch_size=BATCH,
    )


def trained(task: nas.Task, steps: int, seed: int, **knobs: str) -> tuple[nas.Supernet, float]:
    """A supernet, and CPU seconds of its training."""
    supernet = nas.Supernet(nas.SearchSpace(gpt), seed=seed)
    start = time.process_time()
    nas.train(supernet, task, steps=steps, seed=seed, check=False, **knobs)
    return supernet, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sampling", help="default: that of nas.train")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, knobs = task_of(), {"sampling": args.sampling} if args.sampling else {}
    for seed in args.seeds:
        for steps in args.steps:
            supernet, spent = trained(task, steps, seed, **knobs)
            losses = {
                name: nas.evaluate_subnet(
                    supernet, task, dict(zip(("width", "heads", "hidden", "layers"), net, strict=True))
                )
                for name, net in NETS.items()
            }
            mean = float(np.mean(list(losses.values())))
            row = {"seed": seed, "cpu_s": round(spent, 1), "steps": steps, "mean": round(mean, 4)}
            print(json.dumps({**row, **{name: round(loss, 3) for name, loss in losses.items()}}), flush=True)


if __name__ == "__main__":
    main()
