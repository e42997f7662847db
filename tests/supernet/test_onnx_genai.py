"""Decoders in ONNX Runtime: with a cache they continue texts as torch does, in any batch and of any length."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import inputs, model, supernet, tokens

import nas
from nas import UserError
from nas.hw_profiles.measuring.onnx_decoder import OnnxDecoder
from nas.supernet.adopt.onnx_genai import check_decoder

transformers = pytest.importorskip("transformers")
LLAMA = "LlamaForCausalLM"
OTHERS = ("GPT2LMHeadModel", "Gemma3ForCausalLM")


@pytest.mark.parametrize("kind", [LLAMA, *(pytest.param(k, marks=pytest.mark.slow) for k in OTHERS)])
def test_the_file_with_a_cache_generates_as_torch(kind: str, tmp_path: Path) -> None:
    space = supernet(kind).space
    genes = {**space.largest, "layers.0.ffn": 32, "layers.1.heads": 0}
    net = supernet(kind).extract({name: value for name, value in genes.items() if name != "layers.1.group"})
    nas.export(net, inputs(kind), tmp_path, ["onnx-genai"])
    decoder = nas.load(tmp_path, format="onnx-genai")
    x, mask = tokens(), torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0  # padding on the left
    greedy = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    expected = net.generate(x, attention_mask=mask, **greedy)
    assert torch.equal(decoder.generate(x, 8, attention_mask=mask), expected)
    with torch.no_grad():
        assert torch.allclose(decoder(x), net(x).logits, atol=1e-5)
    config = json.loads((tmp_path / "onnx-genai" / "genai_config.json").read_text())["model"]["decoder"]
    assert config["num_hidden_layers"] == 2
    names = [node.name for node in decoder._session.get_inputs()]
    assert names[:4] == ["input_ids", "attention_mask", "position_ids", config["inputs"]["past_key_names"] % 0]


class Wrong(OnnxDecoder):
    def __init__(self, net: torch.nn.Module, shift: int) -> None:
        torch.nn.Module.__init__(self)
        self.net, self.shift = net, shift

    def forward(self, input_ids):
        return self.net(input_ids).logits + (0 if self.shift else 1)

    def generate(self, input_ids, max_new_tokens, **_):
        text = self.net.generate(input_ids, max_new_tokens=max_new_tokens, do_sample=False)
        text[:, -self.shift :] += 1
        return text


def test_a_file_that_differs_is_refused() -> None:
    net, prompt = model(LLAMA), tokens(1)
    with torch.no_grad():
        with pytest.raises(UserError, match="in its logits"):
            check_decoder(Wrong(net, 0), net, prompt)
        with pytest.raises(UserError, match="continues a text as the net does for"):
            check_decoder(Wrong(net, 2), net, prompt)


def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    net = supernet("BertModel").extract(supernet("BertModel").space.smallest)
    with pytest.raises(UserError, match="BertModel is no decoder of text"):
        nas.export(net, inputs("BertModel"), tmp_path / "refused", ["onnx-genai"])
    assert not (tmp_path / "refused").exists()


def test_an_encoder_takes_any_batch_and_length(tmp_path: Path) -> None:
    adopted = supernet("BertModel")
    net = adopted.extract(adopted.space.smallest)
    example = {"input_ids": tokens(), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    nas.export(net, example, tmp_path, ["onnx"])
    file = nas.load(tmp_path, format="onnx")
    for rows, length in ((1, 3), (3, 14)):
        x, mask = tokens(rows, length), torch.ones(rows, length, dtype=torch.long)
        mask[:, -1] = 0
        with torch.no_grad():
            expected = net(x, mask).last_hidden_state
        assert torch.allclose(file(input_ids=x, attention_mask=mask)["last_hidden_state"], expected, atol=1e-5)


def test_an_export_prints_no_graph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net = model("LlamaForCausalLM")  # which the exporter that is tried first refuses
    nas.export(net, tokens(1), tmp_path, ["onnx-fixed"])
    assert "graph(" not in "".join(capfd.readouterr())
