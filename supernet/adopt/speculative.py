"""Speculative decoding: a subnet of a checkpoint drafts tokens for a larger one, with the same weights.

Leviathan et al. 2023, greedy: the draft proposes a few tokens, the target computes the logits of all of them in one
call, and keeps those that it would have chosen itself and one more. The tokens are the target's own; only the time
differs.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError, check_least
from ...search_space.adopted.cache import advance, check_generates, cut, new_cache
from ...search_space.architecture import GeneValue
from ..store import Supernet

Genes = Mapping[str, GeneValue]


@dataclass(frozen=True, eq=False)
class Speculated:
    """tokens (1, prompt + new): as the target alone gives them. drafted, accepted: tokens of the draft, and those of
    them that the target took. passes: calls of the target, that with the prompt included. seconds: of all."""

    tokens: Tensor
    drafted: int
    accepted: int
    passes: int
    seconds: float
    new: int

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that were accepted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def per_pass(self) -> float:
        """Tokens for each call of the target; 1 without a draft."""
        return self.new / self.passes

    @property
    def text(self) -> str:
        return (
            f"{self.new} tokens in {self.seconds:.3g} s, {self.per_pass:.2f} a pass of the target, "
            f"{self.acceptance:.0%} of {self.drafted} drafted accepted"
        )


@torch.inference_mode()
def speculate(
    target: nn.Module, draft: nn.Module | None, input_ids: Tensor, max_new_tokens: int, draft_tokens: int = 4
) -> Speculated:
    """Greedy generation by `target`, to which `draft` proposes `draft_tokens` tokens at a time.

    target, draft: language models of the transformers library with one vocabulary (see `drafting`, whose nets share
        their weights). draft: None: the target alone, as `target.generate(do_sample=False)`.
    input_ids: a prompt (1, tokens). It ends early at an end-of-sequence token of the target's generation config.
    Error: more than one prompt; a net without a key/value cache.

    >>> import transformers
    >>> config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...                                   num_attention_heads=4, eos_token_id=None)
    >>> adopted = nas.adopt(transformers.LlamaForCausalLM(config))
    >>> with nas.drafting(adopted, adopted.space.largest, adopted.space.smallest) as (target, draft):
    ...     result = nas.speculate(target, draft, torch.tensor([[1, 2, 3]]), 8)
    >>> result.tokens.shape
    torch.Size([1, 11])
    """
    for net in (target, draft) if draft is not None else (target,):
        check_generates(net, "speculative decoding")
    if input_ids.dim() != 2 or len(input_ids) != 1:
        raise UserError(f"speculative decoding takes one prompt of shape (1, tokens), got {tuple(input_ids.shape)}")
    check_least(1, max_new_tokens=max_new_tokens, draft_tokens=draft_tokens)
    start = time.perf_counter()
    run = _Run(target, draft, input_ids, max_new_tokens)
    while not run.done:
        run.round(draft_tokens)
    return Speculated(run.tokens, run.drafted, run.accepted, run.passes, time.perf_counter() - start, run.new)


class _Run:
    """A generation so far. Caches hold the keys and values of all tokens but the last, or of fewer."""

    def __init__(self, target: nn.Module, draft: nn.Module | None, prompt: Tensor, most: int) -> None:
        self.target, self.draft, self.tokens = target, draft, prompt
        self.length, self.most = prompt.shape[1], most
        self.caches = new_cache(target), None if draft is None else new_cache(draft)
        self.held = [0, 0]
        self.drafted = self.accepted = self.passes = 0
        self.ends = _ends(target)

    @property
    def new(self) -> int:
        return self.tokens.shape[1] - self.length

    @property
    def done(self) -> bool:
        return self.new >= self.most or (self.new > 0 and int(self.tokens[0, -1]) in self.ends)

    def round(self, draft_tokens: int) -> None:
        """One call of the target, on what the draft proposes."""
        known = self.tokens.shape[1]
        proposed = self._proposed(min(draft_tokens, self.most - self.new - 1))
        choices = self._call(0, self.target, torch.cat([self.tokens, proposed], 1), proposed.shape[1] + 1)
        agreed = int((choices[:, :-1] == proposed).long().cumprod(1).sum())
        taken = self._until_end(choices[:, : agreed + 1])
        self.tokens = torch.cat([self.tokens, taken], 1)
        self.drafted, self.passes = self.drafted + proposed.shape[1], self.passes + 1
        self.accepted += min(agreed, taken.shape[1])
        for which in (0, 1):
            self._forget(which, min(self.held[which], known + agreed))

    def _proposed(self, n: int) -> Tensor:
        tokens = self.tokens
        for _ in range(n if self.draft is not None else 0):
            tokens = torch.cat([tokens, self._call(1, self.draft, tokens, 1)], 1)  # type: ignore[arg-type]
        return tokens[:, self.tokens.shape[1] :]

    def _call(self, which: int, net: nn.Module, tokens: Tensor, last: int) -> Tensor:
        """The choices (1, last) of a net behind each of the last tokens; its cache holds all of them then."""
        choices = advance(net, tokens[:, self.held[which] :], self.caches[which], last).argmax(-1)
        self.held[which] = tokens.shape[1]
        return choices

    def _forget(self, which: int, tokens: int) -> None:
        if self.caches[which] is not None:
            cut(self.caches[which], self.held[which] - tokens)
            self.held[which] = tokens

    def _until_end(self, tokens: Tensor) -> Tensor:
        ends = [at for at, token in enumerate(tokens[0].tolist()) if token in self.ends]
        return tokens[:, : ends[0] + 1] if ends else tokens


def _ends(net: nn.Module) -> set[int]:
    """Tokens that end a text."""
    config: Any = net.generation_config
    end = config.eos_token_id
    return set() if end is None else {end} if isinstance(end, int) else set(end)


@contextmanager
def drafting(supernet: Supernet, *architectures: Genes) -> Iterator[tuple[nn.Module, ...]]:
    """Nets of a supernet side by side, for a while, that hold its very weights: nothing is copied.

    >>> with nas.drafting(supernet, space.largest, space.smallest) as (target, draft):
    ...     y = target(task.example)
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(supernet.filled(supernet.skeleton(a), a)) for a in architectures)


@dataclass(frozen=True, eq=False)
class Draft:
    """A draft that was tried. architecture: None: the target alone. speed: tokens a second; gain: over the target."""

    architecture: Genes | None
    draft_tokens: int
    speed: float
    gain: float
    acceptance: float
    per_pass: float


@dataclass(eq=False)
class _Sum:
    new: int = 0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: list[float] = field(default_factory=list)


def best_draft(
    supernet: Supernet,
    target: Genes,
    candidates: Sequence[Genes],
    prompts: Sequence[Tensor],
    *,
    max_new_tokens: int = 32,
    draft_tokens: Sequence[int] = (1, 2, 4),
    progress: Callable[[int, int], None] | None = None,
) -> list[Draft]:
    """Try drafts for a target, each with each number of drafted tokens, by measured speed: the fastest first.

    All generate from each prompt in turns, the target alone among them, which is where the list ends if no draft pays.
    prompts: each (1, tokens). progress: called as `progress(done, total)`.

    >>> import transformers
    >>> config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...                                   num_attention_heads=4, eos_token_id=None)
    >>> adopted = nas.adopt(transformers.LlamaForCausalLM(config))
    >>> drafts = nas.best_draft(
    ...     adopted, adopted.space.largest, [adopted.space.smallest], [torch.tensor([[1, 2, 3]])], max_new_tokens=6,
    ...     draft_tokens=(2,))
    >>> sorted(draft.draft_tokens for draft in drafts)
    [1, 2]
    """
    ways: list[tuple[Genes | None, int]] = [(None, 1), *((c, k) for c in candidates for k in draft_tokens)]
    sums = [_Sum() for _ in ways]
    for at, prompt in enumerate(prompts):
        for number, (genes, k) in enumerate(ways):
            with drafting(supernet, target, *([] if genes is None else [genes])) as nets:
                result = speculate(nets[0], nets[1] if genes is not None else None, prompt, max_new_tokens, k)
            _add(sums[number], result)
            if progress is not None:
                progress(at * len(ways) + number + 1, len(prompts) * len(ways))
    alone = sums[0].new / sum(sums[0].seconds)
    drafts = [
        Draft(genes, k, speed, speed / alone, s.accepted / max(s.drafted, 1), s.new / s.passes)
        for (genes, k), s in zip(ways, sums, strict=True)
        for speed in [s.new / sum(s.seconds)]
    ]
    return sorted(drafts, key=lambda draft: -draft.speed)


def _add(total: _Sum, result: Speculated) -> None:
    total.new, total.passes = total.new + result.new, total.passes + result.passes
    total.drafted, total.accepted = total.drafted + result.drafted, total.accepted + result.accepted
    total.seconds.append(result.seconds)
