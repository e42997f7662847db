"""Speculative decoding of an adopted model with untrained subnets as drafts, beside transformers' assisted generation.

python scripts/bench_speculative.py --model smollm2

Drafts leave out the layers whose single removal costs the least loss on the prompts. CPU seconds of one thread: on a
machine that others use, too, they are steadier than those of the clock.
"""

import argparse
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import nas
from nas.supernet.adopt.source import load_tokenizer, source_of

PROMPT, SCORED = 64, 128
GENES = ("heads", "ffn")


def texts(tokenizer: Any, n: int, length: int) -> list[torch.Tensor]:
    """Beginnings (1, length) of files of the standard library, evenly spread."""
    files = [p for p in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")) if p.stat().st_size > 20_000]
    chosen = files[:: max(1, len(files) // n)][:n]
    ids = [tokenizer(path.read_text()[: 20 * length])["input_ids"][:length] for path in chosen]
    return [torch.tensor([row]) for row in ids]


@torch.inference_mode()
def loss(supernet: nas.Supernet, net: Mapping[str, Any], rows: Sequence[torch.Tensor]) -> float:
    losses = []
    for row in rows:
        logits = supernet(architecture=net, input_ids=row).logits[0, :-1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, row[0, 1:])))
    return sum(losses) / len(losses)


def without(space: nas.SearchSpace, layers: Sequence[int]) -> Mapping[str, Any]:
    """The largest net without these layers."""
    return space.architecture({**space.largest, **{f"layers.{i}.{gene}": 0 for i in layers for gene in GENES}})


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--new", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--out", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--draft-tokens", type=int, nargs="+", default=[2, 4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    supernet = nas.adopt(arguments.model, ffn=(0.0, 1.0), heads=(0.0, 1.0), group=(1.0,))
    space, tokenizer = supernet.space, load_tokenizer(source_of(arguments.model))
    scored = texts(tokenizer, 2, SCORED)
    layers = [i for i in range(1, 10_000) if f"layers.{i}.ffn" in space.genes]
    ranked = sorted(layers, key=lambda i: loss(supernet, without(space, [i]), scored))
    print(f"layers by the loss without each: {ranked}", flush=True)
    prompts = [row[:, :PROMPT] for row in texts(tokenizer, arguments.prompts, PROMPT)]
    table = Table("draft", "K", "accepted", "tokens a pass", "CPU s", "speed-up", "same tokens")
    with nas.drafting(supernet, space.largest) as (target,):
        alone = [timed(lambda p=p: nas.speculate(target, None, p, arguments.new)) for p in prompts]
        base = sum(seconds for _, seconds in alone)
        table.add_row("none", "", "", "1", f"{base:.1f}", "1", "")
        wanted = [result.tokens for result, _ in alone]
        settings = {"max_new_tokens": arguments.new, "do_sample": False}
        plain = [timed(lambda p=p: target.generate(p, attention_mask=torch.ones_like(p), **settings)) for p in prompts]
        add(table, "none: transformers' generate", "", plain, base, wanted)
        for out in arguments.out:
            with nas.drafting(supernet, without(space, ranked[:out])) as (draft,):
                for k in arguments.draft_tokens:
                    ours = [
                        timed(lambda p=p, d=draft, k=k: nas.speculate(target, d, p, arguments.new, k)) for p in prompts
                    ]
                    add(table, f"{out} layers out", k, ours, base, wanted)
                draft.generation_config.num_assistant_tokens = arguments.draft_tokens[-1]
                draft.generation_config.num_assistant_tokens_schedule = "constant"
                peer = {**settings, "assistant_model": draft}
                theirs = [
                    timed(lambda p=p, s=peer: target.generate(p, attention_mask=torch.ones_like(p), **s))
                    for p in prompts
                ]
                add(
                    table, f"{out} layers out: transformers' assisted", arguments.draft_tokens[-1], theirs, base, wanted
                )
        lookup = {**settings, "prompt_lookup_num_tokens": arguments.draft_tokens[-1]}
        found = [timed(lambda p=p: target.generate(p, attention_mask=torch.ones_like(p), **lookup)) for p in prompts]
        add(table, "prompt lookup (transformers)", arguments.draft_tokens[-1], found, base, wanted)
    Console(width=120).print(table)


def add(table: Table, name: str, k: object, runs: Sequence[Any], base: float, wanted: Sequence[torch.Tensor]) -> None:
    results, seconds = [result for result, _ in runs], sum(seconds for _, seconds in runs)
    mine = [r for r in results if not isinstance(r, torch.Tensor)]
    accepted = f"{sum(r.accepted for r in mine) / max(1, sum(r.drafted for r in mine)):.0%}" if mine else ""
    per_pass = f"{sum(r.new for r in mine) / sum(r.passes for r in mine):.2f}" if mine else ""
    tokens = [r if isinstance(r, torch.Tensor) else r.tokens for r in results]
    same = all(torch.equal(a, b) for a, b in zip(tokens, wanted, strict=True))
    table.add_row(name, str(k), accepted, per_pass, f"{seconds:.1f}", f"{base / seconds:.2f}", "yes" if same else "NO")


if __name__ == "__main__":
    main()
