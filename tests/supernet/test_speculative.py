"""Speculative decoding: the tokens are those of the target's greedy generate, whatever drafts them."""

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError

transformers = pytest.importorskip("transformers")
TOKENS = 12


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def supernet(request: pytest.FixtureRequest) -> nas.Supernet:
    torch.manual_seed(0)
    sizes = {"vocab_size": TOKENS, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if request.param == "gpt2":
        config = transformers.GPT2Config(**sizes, n_embd=24, n_layer=2, n_head=3, initializer_range=0.5)
        return nas.adopt(transformers.GPT2LMHeadModel(config).eval(), uniform=True)
    sizes |= {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 64, "initializer_range": 0.3}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=6, num_key_value_heads=2)
    return nas.adopt(transformers.LlamaForCausalLM(config).eval())


def generated(net: nn.Module, prompt: torch.Tensor, n: int, **others) -> torch.Tensor:
    settings = {"max_new_tokens": n, "do_sample": False, "attention_mask": torch.ones_like(prompt), **others}
    return net.generate(prompt, **settings)


@pytest.mark.parametrize("draft_tokens", [1, 3, 5])
def test_the_tokens_are_those_of_generate(supernet: nas.Supernet, draft_tokens: int) -> None:
    rng, space = np.random.default_rng(draft_tokens), supernet.space
    prompt = torch.randint(TOKENS, (1, 7), generator=torch.Generator().manual_seed(draft_tokens))
    accepted = set()
    for architecture in [space.sample(rng) for _ in range(3)] + [space.smallest]:
        with nas.drafting(supernet, space.largest, architecture) as (target, draft):
            expected = generated(target, prompt, 17)
            result = nas.speculate(target, draft, prompt, 17, draft_tokens)
        assert torch.equal(result.tokens, expected)
        assert result.new == 17
        assert result.passes + result.accepted == result.new
        assert 0 <= result.accepted <= result.drafted
        accepted.add(result.accepted)
    assert len(accepted) > 1  # drafts differ


def test_a_net_that_drafts_for_itself_is_always_right(supernet: nas.Supernet) -> None:
    largest, prompt = supernet.space.largest, torch.tensor([[1, 2, 3]])
    with nas.drafting(supernet, largest, largest) as (target, draft):
        result = nas.speculate(target, draft, prompt, 13, draft_tokens=4)
        alone = nas.speculate(target, None, prompt, 13)
    assert torch.equal(result.tokens, alone.tokens)
    assert result.acceptance == 1
    assert (result.passes, alone.passes) == (3, 13)  # 5 + 5 + 3 tokens
    assert (result.per_pass, alone.per_pass) == (13 / 3, 1.0)


def test_it_ends_where_the_text_ends(supernet: nas.Supernet) -> None:
    space, prompt = supernet.space, torch.tensor([[1, 2, 3]])
    with nas.drafting(supernet, space.largest, space.smallest) as (target, draft):
        free = generated(target, prompt, 12)[0, 3:].tolist()
        end, before = free[5], target.generation_config.eos_token_id
        target.generation_config.eos_token_id = end
        try:
            expected = generated(target, prompt, 12, pad_token_id=0)
            result = nas.speculate(target, draft, prompt, 12, 4)
        finally:
            target.generation_config.eos_token_id = before
    assert torch.equal(result.tokens, expected)
    assert result.new == free.index(end) + 1


def test_weights_are_shared(supernet: nas.Supernet) -> None:
    space = supernet.space
    with nas.drafting(supernet, space.largest, space.smallest) as nets:
        pointers = [net.get_input_embeddings().weight.data_ptr() for net in nets]
    assert pointers[0] == pointers[1]


def test_drafts_are_compared_with_the_target_alone(supernet: nas.Supernet) -> None:
    space, seen = supernet.space, []
    drafts = nas.best_draft(
        supernet, space.largest, [space.smallest, space.largest], [torch.tensor([[1, 2, 3]])], max_new_tokens=6,
        draft_tokens=(1, 2), progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert [draft.speed for draft in drafts] == sorted((draft.speed for draft in drafts), reverse=True)
    assert {draft.architecture for draft in drafts} == {None, space.smallest, space.largest}
    (alone,) = [draft for draft in drafts if draft.architecture is None]
    assert (alone.gain, alone.per_pass) == (1.0, 1.0)
    assert seen[-1] == (5, 5)


def test_wrong_input_is_one_sentence(supernet: nas.Supernet) -> None:
    space = supernet.space
    with nas.drafting(supernet, space.largest) as (target,):
        with pytest.raises(UserError, match=r"one prompt of shape \(1, tokens\), got \(2, 3\)"):
            nas.speculate(target, target, torch.ones(2, 3, dtype=torch.long), 4)
        with pytest.raises(UserError, match="draft_tokens must be at least 1, got 0"):
            nas.speculate(target, target, torch.ones(1, 3, dtype=torch.long), 4, 0)
        with pytest.raises(UserError, match="speculative decoding: Linear keeps no key/value cache"):
            nas.speculate(target, nn.Linear(2, 2), torch.ones(1, 3, dtype=torch.long), 4)
