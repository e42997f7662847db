"""The vectors that a sentence encoder gives, computed once and kept in files that are mapped into memory."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..files import cache_folder, write_atomic
from .outputs import prediction_of
from .similarity import POOLINGS, Pooling, pooled
from .tokenizer import MISSING

SHARD = 512
"""Sentences of a file of vectors: what an interruption loses at most."""
BATCH = 32
OUTPUT = "last_hidden_state"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A sentence encoder, and how the features of its tokens become a vector."""

    module: nn.Module
    pooling: Pooling
    digest: str


def teacher_of(given: Any, pooling: Pooling | None) -> Teacher:
    """The encoder that is given, or the one in a folder of `transformers` or `sentence-transformers`.

    pooling: None: as the folder says, else "mean". Errors: no such folder or pooling; a missing package.
    """
    if isinstance(given, str | Path):
        folder = Path(given).expanduser()
        return teacher_of(_read(folder), pooling or pooling_in(folder))
    if not isinstance(given, nn.Module):
        raise UserError(f"a teacher is an nn.Module or the folder of a sentence encoder, got {given!r}")
    if pooling not in (None, *POOLINGS):
        raise unknown("pooling", str(pooling), POOLINGS)
    content = hashlib.sha256(repr((type(given).__qualname__, pooling or "mean")).encode())
    for name, tensor in given.state_dict().items():
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return Teacher(given, pooling or "mean", content.hexdigest())


def _read(folder: Path) -> nn.Module:
    modules = folder / "modules.json"
    inner = folder / json.loads(modules.read_text())[0]["path"] if modules.is_file() else folder
    if not (inner / "config.json").is_file():
        raise UserError(f"teacher {str(folder)!r} is no folder of a sentence encoder: it has no config.json")
    try:
        from transformers import AutoModel
    except ImportError:
        raise UserError(MISSING.format("transformers")) from None
    model: nn.Module = AutoModel.from_pretrained(
        str(inner), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
    )
    return model


def pooling_in(folder: Path) -> Pooling:
    """The pooling that a folder of sentence-transformers names; "mean" where it names none. Error: another one."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    content = json.loads(file.read_text())
    modes = content.get("pooling_mode") or [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, chosen in content.items()
        if name.startswith("pooling_mode_") and chosen
    ]
    mode = modes if isinstance(modes, str) else "+".join(modes)
    for pooling in POOLINGS:
        if mode == pooling:
            return pooling
    raise UserError(f"{file}: the pooling {mode!r} cannot be used; valid: {', '.join(POOLINGS)}")


def vectors(teacher: Teacher, ids: NDArray[Any], lengths: NDArray[Any]) -> list[Path]:
    """Files of the unit vectors (at most 512, D) of sentences: token ids (N, T), filled up after their lengths (N,)."""
    files = []
    for start in range(0, len(ids), SHARD):
        own, sizes = ids[start : start + SHARD], lengths[start : start + SHARD]
        name = hashlib.sha256(teacher.digest.encode() + own.tobytes() + sizes.tobytes()).hexdigest()[:32]
        file = cache_folder() / "vectors" / f"{name}.float32"
        if not file.is_file():
            write_atomic(file, _computed(teacher, own, sizes).numpy().tobytes())
        files.append(file)
    return files


@lru_cache(maxsize=256)
def mapped(file: Path, sentences: int) -> NDArray[np.float32]:
    """The vectors (sentences, D) of a file."""
    return np.memmap(file, np.float32, mode="r").reshape(sentences, -1)


@torch.inference_mode()
def _computed(teacher: Teacher, ids: NDArray[Any], lengths: NDArray[Any]) -> Tensor:
    """Sentences of like length go together, without what fills them up to the others."""
    order = torch.from_numpy(np.argsort(lengths, kind="stable"))
    rows: list[Tensor] = []
    device = next((p.device for p in teacher.module.parameters()), torch.device("cpu"))
    with _evaluating(teacher.module):
        for chosen in torch.split(order, BATCH):
            inputs = {name: t.to(device) for name, t in inputs_of(ids[chosen], lengths[chosen]).items()}
            outputs = prediction_of(teacher.module(**inputs), OUTPUT)
            rows.append(pooled(outputs, inputs["attention_mask"], teacher.pooling).cpu())
    return torch.cat(rows)[order.argsort()]


def inputs_of(ids: NDArray[Any], lengths: NDArray[Any]) -> dict[str, Tensor]:
    """What a net is called with: `input_ids` and `attention_mask` (N, T), T the largest of the lengths."""
    tokens = torch.from_numpy(ids[:, : int(lengths.max())].astype(np.int64))
    mask = torch.arange(tokens.shape[1])[None] < torch.from_numpy(lengths.astype(np.int64))[:, None]
    return {"input_ids": tokens, "attention_mask": mask.long()}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def filled(rows: Sequence[Sequence[int]], window: int, pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids (N, window), filled up with `pad`, and their lengths (N,)."""
    ids = np.full((len(rows), window), pad, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids, np.array([len(row) for row in rows], dtype=np.int64)
