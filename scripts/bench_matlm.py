"""Nested language models (MatLM) against the same nets trained alone, mixes that were never trained, and drafts.

    python scripts/bench_matlm.py --run runs/matlm [--width 128] [--layers 4] [--steps 1000] [--mixes 100] [--task text]

The preset `matlm` at that width and depth. Every granularity of its FFNs is trained on every batch (`matformer`), and
each alone on as many tokens. Printed: validation loss of both; rank correlation of size and loss over mixes; and how
often the smallest net, nested or alone, is accepted as the draft of a large one: the share of places where its
likeliest token is that net's (greedy), and the share that speculative sampling is expected to accept, the sum of
min(p, q) over tokens (Leviathan et al. 2023). Interrupted, the same command goes on from what the folder keeps.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import nas
from nas.supernet.sampling import granularities


def space_of(task: nas.Task, width: int, layers: int) -> nas.SearchSpace:
    options = nas.load_preset("matlm").model_copy(
        update={"width": (width,), "layers": layers, "head_dim": 32, "kv_heads": (width // 64,), "group": (2,)}
    )
    return nas.SearchSpace(options.bind(task.input_shape, task.classes, task.vocabulary))


def size(space: nas.SearchSpace, net: nas.Architecture) -> int:
    return sum(p.numel() for p in space.skeleton(net).parameters())


def logits_of(net: nn.Module, task: nas.Task) -> Tensor:
    """Log-probabilities at every place of the validation split, (places, vocabulary)."""
    rows = []
    with torch.no_grad():
        for inputs, targets in task.validation.batches(64):
            logs = net.eval()(inputs).log_softmax(-1).flatten(0, 1)
            rows.append(logs[targets.flatten() >= 0])
    return torch.cat(rows)


def loss_of(net: nn.Module, task: nas.Task) -> float:
    """The task's metric, bits per byte or nats per token."""
    return float(nas.evaluate(net, task, "validation"))


def accepted(draft: Tensor, target: Tensor) -> tuple[float, float]:
    """Shares that greedy and sampled decoding of the target accept, from log-probabilities at the same places."""
    greedy = (draft.argmax(-1) == target.argmax(-1)).float().mean()
    sampled = torch.minimum(draft.exp(), target.exp()).sum(-1).mean()
    return float(greedy), float(sampled)


def alone(space: nas.SearchSpace, net: nas.Architecture, task: nas.Task, recipe: nas.Recipe, run: Path) -> nn.Module:
    """The net trained by itself on the same batches; its weights are kept in a file."""
    module, path = space.build(net), run / f"alone-{net.id}.pt"
    if not path.exists():
        start = time.process_time()
        torch.save(nas.train_alone(space, net, task, recipe).state_dict(), path)
        print(f"alone, {size(space, net):,} parameters: {time.process_time() - start:.0f} CPU s", flush=True)
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()


def mixes(space: nas.SearchSpace, count: int) -> list[nas.Architecture]:
    """Random nets without the granularities, which alone are trained."""
    trained, rng = granularities(space), np.random.default_rng(0)
    drawn = dict.fromkeys(space.sample(rng) for _ in range(100 * count))
    return [net for net in drawn if net not in trained][:count]


def drafts(nested: dict[str, Tensor], single: dict[str, Tensor]) -> None:
    print("draft (smallest)  target (largest)  greedy  sampled")
    for of_draft, small in (("nested", nested["small"]), ("alone", single["small"])):
        for of_target, large in (("nested", nested["large"]), ("alone", single["large"])):
            greedy, sampled = accepted(small, large)
            print(f"{of_draft:16}  {of_target:16}  {greedy:6.1%}  {sampled:7.1%}", flush=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    task = nas.load_task(args.task)
    space = space_of(task, args.width, args.layers)
    recipe = nas.Recipe(steps=args.steps, sampling="matformer", distill=args.distill, lr=args.lr, batch_size=args.batch)
    single = nas.Recipe(**{**recipe.model_dump(), "sampling": "uniform", "distill": "none"})
    supernet, start = nas.Supernet(space), time.process_time()
    nas.train(supernet, task, recipe, run=args.run / f"nested-{args.distill}")
    print(f"nested: {time.process_time() - start:.0f} CPU s", flush=True)
    args.run.mkdir(parents=True, exist_ok=True)
    print("parameters  nested   alone    difference")
    nets = granularities(space)
    losses = {"nested": [], "alone": []}
    for net in nets:
        inherited = loss_of(supernet.extract(net), task)
        by_itself = loss_of(alone(space, net, task, single, args.run), task)
        losses["nested"].append(inherited)
        losses["alone"].append(by_itself)
        print(f"{size(space, net):10,}  {inherited:.4f}  {by_itself:.4f}  {inherited / by_itself - 1:+.2%}", flush=True)
    points = [(size(space, net), loss_of(supernet.extract(net), task)) for net in mixes(space, args.mixes)]
    rank = float(spearmanr(*zip(*points, strict=True)).statistic)
    print(f"{len(points)} mixes: Spearman correlation of size and loss {rank:.3f}", flush=True)
    ends = {"large": nets[0], "small": nets[-1]}
    drafts(
        {name: logits_of(supernet.extract(net), task) for name, net in ends.items()},
        {name: logits_of(alone(space, net, task, single, args.run), task) for name, net in ends.items()},
    )
    return {**losses, "mixes": rank}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--task", default="text")
    for name, default in (("width", 128), ("layers", 4), ("steps", 1000), ("mixes", 100), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--distill", default="none")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "losses.json").write_text(json.dumps(run(args)))


if __name__ == "__main__":
    main()
