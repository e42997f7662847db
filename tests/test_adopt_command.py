"""`nas adopt`, then `nas search`, on a small Llama with a tokenizer of its own."""

import json
from pathlib import Path

import pytest
import torch
from nas_command import nas_command

import nas
from nas.search.run_folder import open_run

transformers = pytest.importorskip("transformers")
WORDS = "the quick brown fox jumps over a lazy dog and runs away from it\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for index in range(20):
        (folder / f"{index}.txt").write_text(WORDS * (index + 5))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=280, hidden_size=24, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_model_is_adopted_and_searched(model: Path, text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = nas_command("adopt", str(model), "--run", str(run), "--task", f"text:{text}?window=16", "--ffn", "0.5,1")
    assert result.code == 0, result.err
    opened = open_run(run)
    assert opened.space.genes["layers.1.ffn"].options == (32, 64)
    original = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    supernet, x = opened.supernet(), opened.task.example
    with torch.no_grad():
        assert torch.equal(supernet(x, opened.space.largest).logits, original(x).logits)
    answer = nas_command("search", "--run", str(run), "--target", "raspberry-pi-5", "--evaluations", "6", "--json")
    assert answer.code == 0, answer.err
    content = json.loads(answer.out)
    net = nas.load(run / "best")
    assert nas.evaluate(net, opened.task) == pytest.approx(content["validation"], abs=1e-6)
    names = {"config.json", "model.safetensors", "tokenizer.json", "model.onnx"}
    assert names <= {path.name for path in (run / "best").iterdir()}
    words = ["--arch", "largest", "--format", "huggingface,gguf", "--out", str(tmp_path / "out")]
    result = nas_command("extract", "--run", str(run), *words)
    assert result.code == 0, result.err
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "largest").eval()
    with torch.no_grad():
        assert torch.equal(saved(x).logits, original(x).logits)
    again = nas_command("adopt", str(model), "--run", str(run))
    assert again.code == 2
    assert "holds a run already" in again.err


def test_a_search_adopts_the_model_first(model: Path, text: Path, tmp_path: Path) -> None:
    words = ["search", "--model", str(model), "--task", f"text:{text}?window=16", "--target", "raspberry-pi-5"]
    for evaluations in (3, 4):  # the second call goes on with the run of the first
        result = nas_command(*words, "--budget", "80%", "--evaluations", evaluations, "--run", tmp_path / "run")
        assert result.code == 0, result.err
    assert nas.load(tmp_path / "run" / "best").config.num_hidden_layers <= 3
    both = nas_command(*words, "--space", "byte-lm")
    assert both.code == 2
    assert "name two spaces; leave one out" in both.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no/such-model"], "no/such-model is no folder here and cannot be had from the hub"),
        (["MODEL", "--ffn", "half"], "--ffn must be fractions from 0 to 1"),
        (["MODEL", "--task", "digits"], "LlamaForCausalLM does not fit task 'digits'"),
        (["MODEL", "--task", "poems"], "unknown task 'poems'"),
        (["./missing"], "./missing is no model"),
    ],
)
def test_wrong_words_are_one_sentence_and_write_nothing(
    words: list[str], sentence: str, model: Path, tmp_path: Path
) -> None:
    named = [str(model) if word == "MODEL" else word for word in words]
    result = nas_command("adopt", *named, "--run", str(tmp_path / "run"))
    assert result.code == 2
    assert sentence in result.err
    assert not (tmp_path / "run" / "run.json").exists()


def test_nets_of_a_model_learn_from_it(model: Path, text: Path, tmp_path: Path) -> None:
    run, distilled = tmp_path / "run", tmp_path / "distilled"
    adopted = ("adopt", str(model), "--run", str(run), "--task", f"text:{text}?window=16", "--ffn", "0.5,1")
    assert nas_command(*adopted).code == 0
    start = open_run(run)
    net = start.space.architecture({**start.space.largest, "layers.1.ffn": 32})
    (tmp_path / "net.json").write_text(json.dumps(dict(net)))
    train = ("train", "--init", str(run), "--run", str(distilled))
    for words, sentence in [
        (("--steps", "3"), "state which are trained: nets="),
        (("--steps", "3", "--minutes", "1", "--arch", "largest"), "state one of them"),
    ]:
        result = nas_command(*train, *words)
        assert (result.code, distilled.exists()) == (2, False)
        assert sentence in result.err
    assert nas_command("train", "--arch", "largest", "--run", str(distilled)).code == 2
    result = nas_command(*train, "--arch", str(tmp_path / "net.json"), "--minutes", "0.01", "--lr", "0.003")
    assert result.code == 0, result.err
    ended = open_run(distilled)
    assert (ended.recipe.distill, ended.recipe.nets, ended.recipe.minutes) == ("none", (dict(net),), 0.01)
    assert ended.history().rows
    before, after = start.supernet(), ended.supernet()
    table = "model.embed_tokens.weight"
    weights = [dict(supernet.store.named_parameters()) for supernet in (before, after)]
    assert torch.equal(weights[0][table], weights[1][table])
    assert not torch.equal(
        weights[0]["model.layers.1.mlp.up_proj.weight"], weights[1]["model.layers.1.mlp.up_proj.weight"]
    )
