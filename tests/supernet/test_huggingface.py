"""Nets of adopted models as Hugging Face folders: a process without nas loads them and computes the same."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import inputs, model, supernet, tokens

import nas
from nas import UserError

transformers = pytest.importorskip("transformers")
LLAMA, GPT2, BERT = "LlamaForCausalLM", "GPT2LMHeadModel", "BertModel"
OTHERS = ("Gemma3ForCausalLM", "RobertaForMaskedLM", "ViTForImageClassification", "MT5ForConditionalGeneration")
AUTO = {
    LLAMA: "AutoModelForCausalLM",
    GPT2: "AutoModelForCausalLM",
    BERT: "AutoModel",
    "Gemma3ForCausalLM": "AutoModelForCausalLM",
    "RobertaForMaskedLM": "AutoModelForMaskedLM",
    "ViTForImageClassification": "AutoModelForImageClassification",
    "MT5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}


@cache
def uniform(kind: str) -> nas.Supernet:
    return nas.adopt(model(kind), uniform=True)


def mixed(kind: str) -> nas.Architecture:
    """Every layer otherwise: one has no attention, another no FFN."""
    space = supernet(kind).space
    if kind in OTHERS:
        return space.sample(np.random.default_rng(1))
    genes = {**space.largest, "layers.0.ffn": 32, "layers.1.heads": 0, "layers.2.ffn": 0, "layers.2.heads": 1}
    return space.architecture({name: value for name, value in genes.items() if name != "layers.1.group"})


def net_of(kind: str, form: str) -> tuple[nas.Supernet, nas.Architecture]:
    """The supernet and a net whose layers are of one size, or of many. One layer is left out of the first."""
    if form == "layer by layer":
        return supernet(kind), mixed(kind)
    space = uniform(kind).space
    heads = {"heads": 1, "group": 2} if kind == LLAMA else {}
    return uniform(kind), space.architecture({**space.largest, "ffn": 32, "layers.1.keep": 0, **heads})


FORMS = ("uniform", "layer by layer")
CASES = [(kind, form) for kind in (LLAMA, GPT2, BERT) for form in FORMS]
CASES += [pytest.param(kind, "layer by layer", marks=pytest.mark.slow) for kind in OTHERS]


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_the_folder_gives_the_net_again(kind: str, form: str, tmp_path: Path) -> None:
    adopted, architecture = net_of(kind, form)
    net = adopted.extract(architecture)
    nas.export(net, inputs(kind), tmp_path, ["huggingface"])
    is_plain = form == "uniform"
    assert (tmp_path / "modeling_narrowed.py").exists() is not is_plain
    loaded = getattr(transformers, AUTO[kind]).from_pretrained(tmp_path, trust_remote_code=not is_plain).eval()
    again = nas.load(tmp_path, adopted.space)
    with torch.no_grad():
        expected = net(**inputs(kind))[0]
        assert torch.equal(loaded(**inputs(kind))[0], expected)
        assert torch.equal(again(**inputs(kind))[0], expected)


PROGRAM = """
import sys
sys.modules["nas"] = None  # importing it is an error
import torch, transformers
from safetensors.torch import load_file
folder, auto = sys.argv[1:]
net = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
expected = load_file(f"{folder}/expected.safetensors")
with torch.no_grad():
    assert torch.equal(net(expected["tokens"])[0], expected["outputs"])
if "text" in expected:
    for use_cache in (False, True):
        settings = {"max_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
        text = net.generate(expected["tokens"], attention_mask=torch.ones_like(expected["tokens"]), **settings)
        assert torch.equal(text, expected["text"])
net.save_pretrained(f"{folder}/again")
again = getattr(transformers, auto).from_pretrained(f"{folder}/again", trust_remote_code=True).eval()
with torch.no_grad():
    assert torch.equal(again(expected["tokens"])[0], expected["outputs"])
"""


@pytest.mark.parametrize("kind", [LLAMA, pytest.param(BERT, marks=pytest.mark.slow)])
def test_a_process_without_nas_loads_it(kind: str, tmp_path: Path) -> None:
    net = supernet(kind).extract(mixed(kind))
    nas.export(net, {"input_ids": tokens()}, tmp_path, ["huggingface"])
    with torch.no_grad():
        expected = {"tokens": tokens(), "outputs": net(tokens())[0]}
    if kind == LLAMA:
        settings = {"max_new_tokens": 6, "do_sample": False}
        expected["text"] = net.generate(tokens(), attention_mask=torch.ones_like(tokens()), **settings)
    save_file(expected, tmp_path / "expected.safetensors")
    call = [sys.executable, "-c", PROGRAM, str(tmp_path), AUTO[kind]]
    result = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_folder_with_code_is_refused_without_trust(tmp_path: Path) -> None:
    nas.export(supernet(LLAMA).extract(mixed(LLAMA)), {"input_ids": tokens()}, tmp_path, ["huggingface"])
    with pytest.raises(ValueError, match="trust_remote_code"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)


def test_a_net_with_parts_that_no_config_says_is_refused(tmp_path: Path) -> None:
    net = supernet(LLAMA).extract(supernet(LLAMA).space.largest)
    net.model.layers[0].mlp.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"layers.0.mlp.extra.bias.* use the format safetensors"):
        nas.export(net, {"input_ids": tokens()}, tmp_path / "refused", ["huggingface"])
    with pytest.raises(UserError, match="Linear is no model of the transformers library"):
        nas.export(torch.nn.Linear(2, 2), torch.ones(1, 2), tmp_path / "refused", ["huggingface"])
    with pytest.raises(UserError, match="both write model"):
        nas.export(net, {"input_ids": tokens()}, tmp_path / "refused", ["huggingface", "safetensors"])
    assert not (tmp_path / "refused").exists()


def sentence_encoder(folder: Path) -> Path:
    """A folder of sentence-transformers: a tiny BERT with a tokenizer of words, mean pooling, normalisation."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "small": 3, "house": 4, "large": 5, "ship": 6}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "model_max_length": 32}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    model(BERT).save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_sentence_encoder_stays_one(form: str, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    adopted = nas.adopt(sentence_encoder(tmp_path), uniform=form == "uniform")
    net, is_plain = adopted.extract(net_of(BERT, form)[1]), form == "uniform"
    nas.export(net, {"input_ids": tokens()}, tmp_path / "small", ["huggingface"])
    encoder = library.SentenceTransformer(str(tmp_path / "small"), trust_remote_code=not is_plain, device="cpu")
    sentences = ["a small house", "a ship"]
    batch = transformers.AutoTokenizer.from_pretrained(tmp_path)(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = net(batch["input_ids"], batch["attention_mask"])[0]
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert torch.allclose(torch.from_numpy(encoder.encode(sentences)), expected, atol=1e-6)
