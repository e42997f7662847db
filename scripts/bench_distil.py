"""What heals a language model that layers and FFN channels were cut from: its loss on held-out text, by CPU seconds.

python scripts/bench_distil.py --model smollm2 --steps 30
python scripts/bench_distil.py --model smollm2 --steps 20 --refit 0 --distill kl
"""

import argparse
import time
from typing import Any

import torch

import nas
from nas.supernet.adopt.source import load_model, load_tokenizer, source_of
from nas.tasks import text_task

CUT = (3, 5, 7, 12, 14, 25)
"""Layers of SmolLM2-135M whose single loss is among the least, no two neighbours."""


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="of a Llama: a folder, a .gguf file or smollm2")
    parser.add_argument("--cut", type=int, nargs="*", default=CUT, help="layers that are left out")
    parser.add_argument("--ffn", type=float, default=0.6, help="share of the channels of each FFN that stay")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows", type=int, default=2, help="texts of 256 tokens in a step")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--refit", type=int, default=16, help="texts that the FFNs are fitted on; 0: they are not")
    parser.add_argument("--distill", choices=("none", "kl"), default="none")
    parser.add_argument("--distill-weight", type=float, default=1.0)
    parser.add_argument("--trains", choices=("layers", "all"), default="layers")
    return parser.parse_args()


@torch.no_grad()
def sort_channels(model: Any, tokens: torch.Tensor) -> None:
    """Order the channels of each FFN by their mean activation times the norm of what reads them."""
    seen: dict[Any, torch.Tensor] = {}

    def keep(part: Any, hidden: torch.Tensor) -> None:
        seen[part] = hidden.abs().mean((0, 1))

    layers = model.model.layers
    hooks = [layer.mlp.down_proj.register_forward_pre_hook(lambda part, args: keep(part, args[0])) for layer in layers]
    model(tokens)
    for hook in hooks:
        hook.remove()
    for mlp in (layer.mlp for layer in layers):
        order = (seen[mlp.down_proj] * mlp.down_proj.weight.norm(dim=0)).argsort(descending=True)
        for part, dim in ((mlp.gate_proj, 0), (mlp.up_proj, 0), (mlp.down_proj, 1)):
            part.weight.copy_(part.weight.index_select(dim, order))


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    source = source_of(options.model)
    model = load_model(source)
    task = text_task(tokenizer=load_tokenizer(source), validation=10, batch_size=options.rows)
    sort_channels(model, task.calibration_inputs(4))
    supernet = nas.adopt(model, ffn=(0.0, options.ffn, 1.0), heads=(0.0, 1.0), group=(1.0,))
    largest, genes = supernet.space.largest, supernet.space.genes
    narrow = {name: gene.options[-2] for name, gene in genes.items() if name.endswith(".ffn")}
    left_out = {f"layers.{i}.{part}": 0 for i in options.cut for part in ("heads", "ffn")}
    net = supernet.space.architecture({**largest, **narrow, **left_out})
    loss = lambda architecture: nas.evaluate_subnet(supernet, task, architecture)  # noqa: E731
    print(f"original {loss(largest):.3f}, cut {loss(net):.3f} nats a token", flush=True)
    begun = time.process_time()
    if options.refit:
        nas.refit(supernet, net, task, samples=options.refit)
        spent = time.process_time() - begun
        print(f"fitted {loss(net):.3f} after {spent:.0f} CPU seconds", flush=True)
        begun = time.process_time() - spent
    knobs: dict[str, Any] = {"lr": options.lr, "distill": options.distill, "distill_weight": options.distill_weight}
    knobs |= {"teacher": "original"} if options.distill == "kl" else {}
    knobs |= {"trains": options.trains, "steps": options.steps, "refit": 0}
    nas.train(supernet, task, nets=[dict(net)], check=False, **knobs)
    spent = time.process_time() - begun
    print(f"trained {loss(net):.3f} after {options.steps} steps, {spent:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
