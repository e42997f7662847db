"""Searches for language models by what a request costs: time to first token, time per output token, the whole."""

import numpy as np
import pytest
import torch

import nas
from nas.errors import UserError
from nas.hw_profiles import Measurement
from nas.hw_profiles.measuring.serving import Served, measure_serving
from nas.hw_profiles.serving import Request, trace_serving
from nas.search.verify import _time
from nas.values import LATENCY, TPOT, TTFT

transformers = pytest.importorskip("transformers")
TOKENS, PROMPT, GENERATE = 64, 8, 4


def language_model(kind: str = "llama") -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": TOKENS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_embd=24, n_layer=2, n_head=3)).eval()
    sizes |= {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 64}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config).eval()


def rows(n: int, seed: int) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(1, TOKENS, (n, 13), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row[:-1], "labels": row[1:]} for row in ids]


@pytest.fixture(scope="module")
def supernet() -> nas.Supernet:
    return nas.adopt(language_model(), ffn=(0.5, 1.0), heads=(1.0,), group=(1.0,), uniform=True)


@pytest.fixture(scope="module")
def task() -> nas.Task:
    def loss(logits, targets):
        return torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    return nas.Task.of(
        train=rows(4, 0), validation=rows(2, 1), inputs=["input_ids"], target="labels", output="logits", loss=loss,
        outputs="tokens", vocabulary=TOKENS, metric=("loss", loss), better="min",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_bytes_of_the_cache_are_those_that_generate_leaves(kind: str) -> None:
    model = language_model(kind)
    cost = trace_serving(model, Request(PROMPT, GENERATE, batch=2))
    prompt = torch.ones(2, PROMPT, dtype=torch.long)
    settings = {"max_new_tokens": GENERATE, "min_new_tokens": GENERATE, "do_sample": False}
    left = model.generate(prompt, **settings, return_dict_in_generate=True)
    cache = left.get("cache", left.get("past_key_values"))
    assert cost.cache_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cost.whole.kv_cache_bytes == cost.cache_bytes
    assert cost.whole.memory_bytes > cost.prefill.weight_bytes + cost.cache_bytes


def test_a_layer_without_attention_keeps_nothing() -> None:
    space = nas.adopt(language_model()).space
    without = space.architecture({**space.largest, "layers.1.heads": 0})
    whole, less = (trace_serving(space.skeleton(a), Request(PROMPT, GENERATE)) for a in (space.largest, without))
    assert less.cache_bytes * 3 == whole.cache_bytes * 2


def test_a_step_computes_one_token_and_reads_the_whole_cache() -> None:
    model = language_model()
    short, long = (trace_serving(model, Request(prompt, 2)) for prompt in (8, 16))
    linear = [op.flops for op in short.step.operators if op.kind == "matmul"]
    assert sum(linear) == 2 * sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2)  # the head is tied
    read = [sum(op.bytes_read for op in cost.step.operators if op.kind == "attention") for cost in (short, long)]
    assert read[1] - read[0] == 8 * 3 * 2 * 2 * 4 * 4  # tokens, layers, keys and values, heads, channels, bytes
    assert short.whole.flops == short.prefill.flops + short.step.flops


def test_a_request_is_a_prefill_and_its_steps() -> None:
    first, each = Measurement(4.0, 5.0, 0.01, 30), Measurement(1.0, 1.5, 0.03, 90)
    served = Served.of(Request(PROMPT, 5), first, each)
    assert served.median_ms == 8.0
    assert served.p95_ms == pytest.approx(8 + (1 + 4 * 0.25) ** 0.5)
    assert served.noise == pytest.approx(0.02)
    slower = served.at_pace(0.5, 0.1)
    assert [_time(slower, metric) for metric in (LATENCY, TTFT, TPOT)] == [16.0, 8.0, 2.0]
    assert slower.noise == 0.1


def test_requests_are_timed() -> None:
    (served,) = measure_serving(
        [language_model()],
        Request(PROMPT, GENERATE),
        protocol=nas.hw_profiles.Protocol(seconds=0.05, least_repeats=3, least_turns=1),
    )
    assert 0 < served.tpot_ms < served.median_ms
    assert served.median_ms == pytest.approx(served.ttft_ms + (GENERATE - 1) * served.tpot_ms)


def test_a_limit_on_the_time_per_token_of_a_device(supernet: nas.Supernet, task: nas.Task) -> None:
    device = nas.load_device("raspberry-pi-5")
    largest = trace_serving(supernet.space.skeleton(supernet.space.largest), Request(PROMPT, GENERATE))
    answer = nas.find(
        task=task, targets="raspberry-pi-5", limits={"tpot_ms": "80%", "ttft_ms": "1s"}, objectives=["ttft_ms"],
        prompt=PROMPT, generate=GENERATE, supernet=supernet, evaluations=8,
    )  # fmt: skip
    cost = trace_serving(supernet.space.skeleton(answer.architecture), Request(PROMPT, GENERATE))
    assert cost.tpot(device).value <= 0.8 * largest.tpot(device).value
    assert answer.choice.costs["tpot_ms"].value == pytest.approx(cost.tpot(device).value, rel=1e-4)
    assert answer.latency.value == pytest.approx(device.latency(cost.whole).value, rel=1e-4)
    assert {"tpot_ms", "ttft_ms"} <= set(answer.front.columns)
    assert "8 tokens of prompt, 4 generated, batch 1" in answer.facts["latency"]
    assert "time per output token at most 80%" in answer.facts["limits"]


@pytest.mark.slow
def test_on_this_machine_the_limit_is_measured(supernet: nas.Supernet, task: nas.Task, tmp_path) -> None:
    answer = nas.find(
        task=task, targets="local-cpu", limits={"tpot_ms": "95%"}, prompt=PROMPT, generate=GENERATE,
        supernet=supernet, evaluations=6, run=tmp_path / "run",
    )  # fmt: skip
    tpot = answer.choice.costs["tpot_ms"]
    assert (tpot.source, answer.latency.source) == ("measured", "measured")
    assert tpot.value <= answer.choice.limits["tpot_ms"] * 1.1
    assert [path.name for path in (tmp_path / "run").glob("local-cpu-batch1-prompt8-generate4.json")]
    assert any("timed with PyTorch" in note for note in answer.notes)


def test_a_net_without_a_cache_is_refused(task: nas.Task) -> None:
    with pytest.raises(UserError, match="keeps no key/value cache"):
        nas.find("vit-digits", "digits", targets="t4", limits={"tpot_ms": "1ms"}, supernet=None)
    with pytest.raises(UserError, match="generate must be at least 2, got 1"):
        nas.find(task=task, targets="t4", generate=1, supernet=nas.adopt(language_model(), uniform=True))


def test_smaller_nets_cost_less(supernet: nas.Supernet) -> None:
    rng, device = np.random.default_rng(0), nas.load_device("t4")
    largest = trace_serving(supernet.space.skeleton(supernet.space.largest))
    for net in [supernet.space.sample(rng) for _ in range(3)]:
        cost = trace_serving(supernet.space.skeleton(net))
        assert cost.tpot(device).value <= largest.tpot(device).value
        assert cost.whole.memory_bytes <= largest.whole.memory_bytes
