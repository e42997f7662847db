"""Nets of Llamas as GGUF files: the library reads the net back, and its tokenizer where the model came with one."""

import pytest
import torch
from tiny_models import inputs, model, supernet

import nas
from nas import UserError

gguf = pytest.importorskip("gguf")
KIND = "LlamaForCausalLM"


def test_the_file_gives_the_net_again(tmp_path) -> None:
    import transformers

    adopted = nas.adopt(model(KIND), uniform=True)
    genes = {**adopted.space.largest, "ffn": 32, "heads": 1, "group": 2, "layers.1.keep": 0}
    net = adopted.extract(adopted.space.architecture(genes))
    nas.export(net, inputs(KIND), tmp_path / "first", ["gguf"])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "first", gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs(KIND)).logits, net(**inputs(KIND)).logits)

    source = tmp_path / "source.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    net.name_or_path = str(source)
    path = nas.export(net, inputs(KIND), tmp_path / "second", ["gguf"])["gguf"]
    fields = gguf.GGUFReader(path).fields
    assert fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]


def test_layers_of_several_sizes_are_refused(tmp_path) -> None:
    net = supernet(KIND).extract({**supernet(KIND).space.largest, "layers.0.ffn": 32})
    with pytest.raises(UserError, match="whose layers are all of one size"):
        nas.export(net, inputs(KIND), tmp_path / "refused", ["gguf"])
    assert not (tmp_path / "refused").exists()
