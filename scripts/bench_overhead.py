"""Cost of sharing weights: a training step of a subnet through the supernet against the same net by itself.

    python scripts/bench_overhead.py [--space vit-fashion] [--task fashion-mnist] [--batch-size 128] [--rounds 30]

Both take the same batch, loss, clipping and AdamW; steps alternate in one process, so that a noisy machine disturbs
both alike. Printed: median milliseconds of each and the median of the ratios, round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import nas
from nas.supernet.optimizer import CornerAdamW

LR, DECAY, CLIP = 1e-3, 0.05, 1.0


def static_step(net: nn.Module, task: nas.Task, batch: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], None]:
    """A plain PyTorch step."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=DECAY, betas=(0.9, 0.99), foreach=True)
    net.train()

    def step() -> None:
        optimizer.zero_grad()
        task.loss(net(batch[0]), batch[1]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()

    return step


def shared_step(
    supernet: nas.Supernet, architecture: nas.Architecture, task: nas.Task, batch: tuple[torch.Tensor, torch.Tensor]
) -> Callable[[], None]:
    """The same step on shared weights."""
    parameters = dict(supernet.store.named_parameters())
    optimizer = CornerAdamW(parameters, DECAY)
    supernet.train()
    used = {name: [corner] for name, corner in supernet.corners(architecture).items()}

    def step() -> None:
        for p in parameters.values():
            p.grad = None
        task.loss(supernet(batch[0], architecture), batch[1]).backward()
        nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        optimizer.step(LR, used)

    return step


def timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="vit-fashion")
    parser.add_argument("--task", default="fashion-mnist")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task = nas.load_task(args.task)
    space = nas.SearchSpace(nas.load_preset(args.space).bind(input_shape=task.input_shape, classes=task.classes))
    supernet = nas.Supernet(space)
    batch = task.batch(0, args.batch_size, 0)
    nets = {"largest": space.largest, **{f"random {s}": space.sample(s) for s in range(3)}, "smallest": space.smallest}
    print(f"{'net':10} {'params':>9} {'static ms':>10} {'shared ms':>10} {'ratio':>6}   ({args.threads} threads)")
    for name, architecture in nets.items():
        net = supernet.extract(architecture)
        params = sum(p.numel() for p in net.parameters())
        steps = static_step(net, task, batch), shared_step(supernet, architecture, task, batch)
        for step in steps * 3:
            step()
        rounds = [(timed(steps[0]), timed(steps[1])) for _ in range(args.rounds)]
        static, shared = (1e3 * statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(b / a for a, b in rounds)
        print(f"{name:10} {params:9,} {static:10.2f} {shared:10.2f} {ratio:6.3f}", flush=True)


if __name__ == "__main__":
    main()
