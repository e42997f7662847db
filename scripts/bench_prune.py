"""SmolLM2 made smaller without any training: a mix of replacements against greedy layers and uniform widths.

    python scripts/bench_prune.py --model smollm2 --folder prune

Text: files of the Python standard library (tests left out, at least 4,000 bytes), in the order of the SHA-256 of their
names. A tenth of them, by the SHA-256 of their paths, is held out; nets are chosen on the first tokens of others.
Every loss is in nats per token; fractions are of the parameters without embeddings. Goes on where it was interrupted.
"""

import argparse
import hashlib
import json
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

import torch

import nas
from nas.supernet.adopt.source import load_tokenizer, source_of

FRACTIONS = (0.9, 0.8, 0.7)
ELSEWHERE = {"site-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"}
SORTED = {"ffn": tuple(i / 8 for i in range(9)), "heads": (0, 1 / 3, 2 / 3, 1), "group": (1 / 3, 2 / 3, 1)}
MIX = {"ffn": (0, 0.75, 0.875, 1), "heads": (0, 1), "group": (1,)}


def windows(tokenizer, held_out: bool, count: int, length: int) -> dict[str, torch.Tensor]:
    """The first tokens of files, one window each."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [f for f in root.rglob("*.py") if not ELSEWHERE & set(f.relative_to(root).parts)]
    files = [f for f in files if f.stat().st_size > 4000 and (_hash(f.relative_to(root)) % 10 == 0) == held_out]
    rows = []
    for file in sorted(files, key=lambda f: hashlib.sha256(f.name.encode()).hexdigest()):
        tokens = tokenizer(file.read_text(errors="ignore"))["input_ids"]
        rows += [tokens[: length + 1]] if len(tokens) > length else []
        if len(rows) == count:
            break
    x = torch.tensor(rows)
    return {"input_ids": x[:, :-1], "labels": x[:, 1:]}


def _hash(path: Path) -> int:
    return int(hashlib.sha256(str(path).encode()).hexdigest(), 16)


def task_of(tokenizer, chosen: tuple[int, int], held: tuple[int, int]) -> nas.Task:
    train, validation = windows(tokenizer, False, *chosen), windows(tokenizer, True, *held)
    inputs = {"input_ids": "input_ids"}
    return nas.Task.of(train=train, validation=validation, inputs=inputs, vocabulary=len(tokenizer))


class Results:
    """Losses on held-out text, kept as they are measured."""

    def __init__(self, path: Path, task: nas.Task) -> None:
        self.path, self.task, self.begun = path, task, time.process_time()
        self.losses: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, supernet: nas.Supernet, genes: Mapping[str, object], note: object = "") -> None:
        if name not in self.losses:
            net = supernet.extract(supernet.space.architecture(genes))
            outside = net.get_input_embeddings().weight.numel()
            params = sum(p.numel() for p in net.parameters()) - outside
            self.losses[name] = [params, nas.evaluate(net, self.task)]
            self.path.write_text(json.dumps(self.losses, indent=1))
        params, loss = self.losses[name]
        print(
            f"{name:32} {params:12,.0f} {loss:.3f} nats {time.process_time() - self.begun:.0f} CPU s {note}", flush=True
        )


def said(stage: str, done: int, total: int, _: object) -> None:
    if done % 10 == 0 or done == total:
        print(f"{stage} {done}/{total}", flush=True)


def like(supernet: nas.Supernet, **elastic: object) -> nas.Supernet:
    """The same weights with other choices."""
    function = supernet.space.function
    elastic = function.elastic.model_copy(update=elastic)
    return supernet.serving(nas.SearchSpace(function.model_copy(update={"elastic": elastic})))


def mixed(supernet: nas.Supernet, task: nas.Task, results: Results, folder: Path) -> None:
    """Ours."""
    own = like(supernet, **MIX)
    results.add("whole", own, own.space.largest)
    fractions = [1 - i / 20 for i in range(1, 7)]
    for rung in nas.ladder(own, task, folder=folder / "mix", progress=said, fractions=fractions)[2::2]:
        results.add(f"mix, {rung.cost:.0f}", own, rung.architecture, dict(rung.architecture))


def layers(supernet: nas.Supernet, task: nas.Task, results: Results, folder: Path) -> None:
    """Layers left out one by one, by loss."""
    own = like(supernet, ffn=(1,), heads=(1,), group=(1,), uniform=True)
    fractions = [1 - i / 30 for i in range(1, 10)]
    for out, rung in enumerate(nas.ladder(own, task, folder=folder / "layers", progress=said, fractions=fractions)):
        if out in (3, 6, 9):
            results.add(f"{out} layers out", own, rung.architecture)


def uniform(supernet: nas.Supernet, task: nas.Task, results: Results) -> None:
    """Every FFN narrowed alike; heads and FFNs of all layers but the first three and the last two."""
    sizes = {0.9: (1344, 1312, 3), 0.8: (1120, 1056, 3), 0.7: (928, 992, 2)}
    for method in ("activation", "taylor"):
        nas.sort_by_importance(supernet, task, methods=[method], samples=4)
        for fraction, (all_, middle, heads) in sizes.items():
            own = like(supernet, ffn=(all_ / 1536, middle / 1536, 1), heads=(2 / 3, 1), group=(1,))
            genes = dict(own.space.largest)
            for name in genes:
                layer, part = int(name.split(".")[1]), name.split(".")[2]
                inner = 3 <= layer < 28
                if part == "ffn" and (inner or method == "activation"):
                    genes[name] = all_ if method == "activation" else middle
                elif part == "heads" and inner and method == "taylor":
                    genes[name] = heads
            results.add(f"{method}, {fraction} of the size", own, genes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--folder", type=Path, default=Path("prune"))
    parser.add_argument("--only", default="mix,layers,uniform")
    options = parser.parse_args()
    tokenizer = load_tokenizer(source_of(options.model))
    options.folder.mkdir(parents=True, exist_ok=True)
    task = task_of(tokenizer, (16, 128), (8, 256))
    supernet = nas.adopt(options.model, **SORTED)
    results = Results(options.folder / "results.json", task)
    kept = options.folder / "sorted"
    if "uniform" in options.only:
        uniform(supernet, task, results)
    if (kept / "supernet.safetensors").exists():
        supernet = nas.Supernet.load(kept, supernet.space)
    else:
        nas.sort_by_importance(supernet, task_of(tokenizer, (16, 192), (1, 256)), samples=8, folder=options.folder)
        supernet.save(kept)
    if "mix" in options.only:
        mixed(supernet, task, results, options.folder)
    if "layers" in options.only:
        layers(supernet, task, results, options.folder)


if __name__ == "__main__":
    main()
