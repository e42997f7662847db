"""A decoder with key/value cache in ONNX Runtime, with inputs and outputs as ONNX Runtime GenAI names them.

Inputs: `input_ids` (batch, tokens), `attention_mask` (batch, past + tokens), `position_ids` (batch, tokens), and for
each layer with attention `past_key_values.N.key` and `.value` (batch, key/value heads, past, channels), which are empty
at the first call. Outputs: `logits` (batch, tokens, vocabulary), `present.N.key` and `.value`.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PAST, PRESENT = "past_key_values", "present"


def cache_names(prefix: str, layers: int) -> list[str]:
    """Of keys and values: `present.0.key`, `present.0.value`, `present.1.key`, ..."""
    return [f"{prefix}.{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]


class OnnxDecoder(nn.Module):
    """The file as a module: `decoder(tokens)` gives logits, `decoder.generate(tokens)` continues greedily.

    threads: of ONNX Runtime; None: its own choice. The cache stays in ONNX Runtime's memory between steps.
    """

    def __init__(self, model: bytes | str | Path, threads: int | None = None) -> None:
        super().__init__()
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        self._session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        shapes = {node.name: node.shape for node in self._session.get_inputs()}
        self._heads = [(shapes[name][1], shapes[name][3]) for name in shapes if name.startswith(PAST)]
        self._outputs = ["logits", *cache_names(PRESENT, len(self._heads) // 2)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, vocabulary) of whole texts."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits, _ = self.step(input_ids, mask, self.empty(len(input_ids)))
        return logits

    def empty(self, batch: int) -> list[Any]:
        """The cache before the first token."""
        from onnxruntime import OrtValue

        shapes = [(batch, heads, 0, channels) for heads, channels in self._heads]
        return [OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for shape in shapes]

    def step(self, input_ids: Tensor, attention_mask: Tensor, past: Sequence[Any]) -> tuple[Tensor, list[Any]]:
        """Logits of these tokens after those in the cache, and the cache with them.

        attention_mask: (batch, past + tokens), of all tokens so far; 0 for padding, on the left.
        """
        from onnxruntime import OrtValue

        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions}
        feed = {name: OrtValue.ortvalue_from_numpy(x.contiguous().numpy()) for name, x in given.items()}
        feed |= dict(zip(cache_names(PAST, len(past) // 2), past, strict=True))
        logits, *present = self._session.run_with_ort_values(self._outputs, feed)
        return torch.from_numpy(logits.numpy()), present

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int = 32,
        attention_mask: Tensor | None = None,
        eos_token_ids: Collection[int] = (),
    ) -> Tensor:
        """The tokens and their greedy continuation; it ends early where every text has one of `eos_token_ids`.

        What comes after the end of a text in a batch is of no meaning.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        past, tokens, ended = self.empty(len(input_ids)), input_ids, torch.zeros(len(input_ids), dtype=torch.bool)
        for _ in range(max_new_tokens):
            logits, past = self.step(tokens, mask, past)
            tokens = logits[:, -1].argmax(-1, keepdim=True)
            input_ids, mask = torch.cat([input_ids, tokens], 1), torch.cat([mask, torch.ones_like(tokens)], 1)
            ended |= torch.isin(tokens[:, 0], torch.tensor(list(eos_token_ids), dtype=torch.long))
            if ended.all():
                break
        return input_ids
