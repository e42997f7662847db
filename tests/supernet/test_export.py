"""Files to ship: any example in, any outputs out, the same numbers back; a changed file is refused in one sentence."""

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import nas
from nas import UserError
from nas.files import sealed
from nas.hw_profiles import measure
from nas.hw_profiles.cost.flat import named_tensors_in
from nas.search_space.inputs import call
from nas.supernet import export as export_module
from nas.supernet.export import save_bundle


@dataclass
class Outputs:
    logits: torch.Tensor
    states: tuple[torch.Tensor, ...]
    nothing: None = None


class Net(nn.Module):
    """Tokens, a boolean mask and a scale in; what `form` says out."""

    def __init__(self, width=16):
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(30, width), nn.LayerNorm(width), nn.Linear(width, 30)

    def forward(self, tokens, mask=None, scale=1.0, form="mapping"):
        x = self.norm(self.embed(tokens))
        x = x if mask is None else x.masked_fill(~mask[..., None], 0.0)
        y = self.out(x) * scale
        forms = {"mapping": {"logits": y, "hidden": x}, "data": Outputs(y, (x,)), "tuple": (y, x), "tensor": y}
        return forms[form]


def tokens(rows=2):
    return torch.randint(0, 30, (rows, 9), generator=torch.Generator().manual_seed(rows))


def mask(rows=2):
    return torch.rand(rows, 9, generator=torch.Generator().manual_seed(rows)) > 0.3


def net():
    torch.manual_seed(0)
    return Net().eval()


def assert_same(found, expected):
    pairs = list(zip(named_tensors_in(found), named_tensors_in(expected), strict=True))
    assert pairs
    for (_, a), (_, b) in pairs:
        assert torch.allclose(a, b, atol=1e-5)


CALLS = {
    "tensor": (tokens(), ["tokens"], ["logits", "hidden"]),
    "sequence": ([tokens(), mask(), 2.0, "tuple"], ["tokens", "mask"], ["output_0", "output_1"]),
    "keywords": ({"mask": mask(), "tokens": tokens(), "form": "data"}, ["mask", "tokens"], ["logits", "states_0"]),
    "one output": ({"tokens": tokens(), "form": "tensor"}, ["tokens"], ["output"]),
}


@pytest.mark.parametrize(("example", "inputs", "outputs"), CALLS.values(), ids=CALLS.keys())
def test_files_are_called_as_the_module_is(tmp_path, example, inputs, outputs):
    module = net()
    file = nas.export(module, example, tmp_path, ["safetensors", "onnx-fixed"])["onnx-fixed"]
    session = onnxruntime.InferenceSession(file)
    assert [node.name for node in session.get_inputs()] == inputs
    assert [node.name for node in session.get_outputs()] == outputs
    expected = call(module, example)
    assert_same(call(nas.load(tmp_path, net=Net()), example), expected)
    loaded = call(nas.load(tmp_path, format="onnx-fixed"), example)
    assert_same(loaded, expected)
    kinds = {"output": torch.Tensor, "output_0": tuple}
    assert isinstance(loaded, kinds.get(outputs[0], dict))


@pytest.mark.slow
def test_the_batch_stays_free_where_inputs_share_it(tmp_path):
    class Biased(Net):
        def forward(self, tokens, bias):
            return {"logits": super().forward(tokens)["logits"] + bias[:, None]}

    torch.manual_seed(0)
    module, bias = Biased().eval(), torch.randn(9)  # a first dimension of its own
    nas.export(module, [tokens(), bias], tmp_path, ["onnx", "torch"])
    expected = module(tokens(5), bias)
    assert_same(nas.load(tmp_path, format="onnx")(tokens(5), bias), expected)
    assert_same(nas.load(tmp_path, format="torch", trust=True)(tokens(5), bias), expected)
    with pytest.raises(UserError, match=r"may run code of its author.*trust=True"):
        nas.load(tmp_path, format="torch")
    with pytest.raises(UserError, match="bias is missing"):
        nas.load(tmp_path, format="onnx")(tokens())


class Fixed(nn.Module):
    def forward(self, x):
        return x.view(2, 20)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.min() >= 0 else -x


class Nothing(nn.Module):
    def forward(self, x):
        del x


FREE = "batch of Fixed cannot stay free.*first dimension of 2.*none of 3"
WRONG = {
    "floats for tokens": (net(), torch.rand(2, 9), "onnx", r"Net does not take the example \(.*float32\): Runtime"),
    "keyword": (net(), {"words": tokens()}, "onnx", "unexpected keyword argument 'words'"),
    "fixed batch": (Fixed(), torch.rand(2, 4, 5), "onnx", FREE),
    "branch": (Branching(), torch.rand(2, 4), "onnx-fixed", "differs from the module .* on random inputs like the"),
    "no output": (Nothing(), torch.rand(2, 4), "onnx", "Nothing returns NoneType without a tensor"),
    "no input": (net(), {}, "onnx", "does not take the example"),
}


@pytest.mark.parametrize(("module", "example", "form", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_has_no_such_form_is_one_sentence_and_nothing_is_written(tmp_path, module, example, form, message):
    with pytest.raises(UserError, match=message):
        nas.export(module, example, tmp_path, [form])
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_shipped(tmp_path):
    module = net()
    module.out.weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"1 of 480 numbers of out\.weight are not finite"):
        nas.export(module, tokens(), tmp_path, ["safetensors"])


# Load


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a bundle, and its module: written once, for it takes half a second."""
    folder = tmp_path_factory.mktemp("written")
    space = nas.SearchSpace(nas.load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    description = nas.search_space.locate.describe_space("vit-digits", (1, 8, 8), 10)
    torch.manual_seed(0)
    module = space.build(space.smallest).eval()
    nas.export(module, torch.rand(2, 1, 8, 8), folder, ["safetensors", "onnx-fixed"])
    save_bundle(folder, space.smallest, description, {"task": "digits"})
    return folder, module


@pytest.fixture
def bundle(tmp_path, written):
    """A copy of its own, which a test may damage."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, deepcopy(written[1])


def test_a_bundle_and_what_export_wrote_are_loaded(bundle, tmp_path):
    folder, module = bundle
    x = torch.rand(2, 1, 8, 8)
    assert nas.load(folder)(x).equal(module(x))
    assert torch.allclose(nas.load(folder, format="onnx-fixed")(x), module(x), atol=1e-5)
    alone = tmp_path / "alone"
    nas.export(module.half(), torch.rand(2, 1, 8, 8).half(), alone, ["safetensors"])
    space = nas.SearchSpace(nas.load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    half = nas.load(alone, space, architecture=space.smallest)
    assert half(x.half()).equal(module(x.half()))
    with pytest.raises(UserError, match="give space= and architecture=, or net="):
        nas.load(alone)
    with pytest.raises(UserError, match="no model of the format 'onnx'; it has safetensors"):
        nas.load(alone, format="onnx")
    with pytest.raises(UserError, match=r"holds another net than model\.json says: "):
        nas.load(alone, space, architecture=space.largest)


def flipped(at):
    def change(path):
        data = bytearray(path.read_bytes())
        data[int(at * (len(data) - 1))] ^= 0x10
        path.write_bytes(bytes(data))

    return change


def edited(**fields):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


DAMAGE = {
    "flipped": flipped(0.5), "first": flipped(0), "last": flipped(1), "empty": lambda p: p.write_bytes(b""),
    "half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "missing": lambda p: p.unlink(),
    "zeros": lambda p: p.write_bytes(bytes(p.stat().st_size)), "null": lambda p: p.write_text("null"),
    "list": lambda p: p.write_text("[1]"), "mapping": lambda p: p.write_text("{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "model-fixed.onnx"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_by_name(bundle, name, damage):
    folder, _ = bundle
    damage(folder / name)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        nas.load(folder, format="onnx-fixed" if name.endswith("onnx") else "safetensors")


CHANGES = {
    "architecture": edited(architecture=5), "genes": edited(architecture={}), "space": edited(space={}),
    "accuracy": edited(task="other"), "sums": edited(sha256={}), "no sums": edited(sha256=None),
}  # fmt: skip


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_edited_description_is_refused_and_a_forged_one_is_no_traceback(bundle, change, seal):
    path = bundle[0] / "model.json"
    change(path)
    if seal:
        path.write_text(json.dumps(sealed(json.loads(path.read_text()))))
        if json.loads(path.read_text())["task"] == "other":
            nas.load(bundle[0])
            return
    with pytest.raises(UserError):
        nas.load(bundle[0])


SWAPS = {
    "nan": (lambda t: {n: x * torch.nan for n, x in t.items()}, "not finite"),
    "names": (lambda t: {f"{n}s": x for n, x in t.items()}, "in one of them only"),
    "shapes": (lambda t: {n: x[:1].contiguous() for n, x in t.items()}, "holds another net"),
    "kinds": (lambda t: {n: x.long() for n, x in t.items()}, "of torch.int64"),
}


@pytest.mark.parametrize(("swap", "message"), SWAPS.values(), ids=SWAPS.keys())
def test_other_tensors_are_refused_even_where_the_sums_are_forged(bundle, swap, message):
    path = bundle[0] / "model.safetensors"
    save_file(swap(load_file(path)), path)
    with pytest.raises(UserError, match="SHA-256 is not the recorded one"):
        nas.load(bundle[0])
    text = bundle[0] / "model.json"
    content = json.loads(text.read_text())
    content["sha256"][path.name] = nas.files.sha256_of(path)
    text.write_text(json.dumps(sealed(content)))
    with pytest.raises(UserError, match=message):
        nas.load(bundle[0])


def test_a_strangers_bundle_runs_no_code(bundle):
    folder, module = bundle
    payload, ran = folder / "payload.py", folder / "ran"
    payload.write_text(f"open({str(ran)!r}, 'w')\nfrom torch import nn\ndef net(trial): return nn.Flatten()\n")
    text = folder / "model.json"
    space = {"python": str(payload), "function": "net", "input_shape": [1, 8, 8], "classes": 10}
    content = json.loads(text.read_text()) | {"space": space | {"sha256": nas.files.sha256_of(payload)}}
    text.write_text(json.dumps(sealed(content)))
    with pytest.raises(UserError, match="would run the code of"):
        nas.load(folder)
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(nas.load(folder, format="onnx-fixed")(x), module(x), atol=1e-5)
    assert not ran.exists()
    with pytest.raises(UserError):  # it is another net
        nas.load(folder, trust=True)
    assert ran.exists()


# The same examples elsewhere


def test_costs_latencies_and_timings_take_the_same_examples():
    module, pair = net(), [tokens(), mask()]
    keywords = {"mask": pair[1], "tokens": pair[0]}
    assert nas.trace_cost(module, keywords).by_kind() == nas.trace_cost(module, pair).by_kind()
    board = nas.load_device("raspberry-pi-5")
    assert board.latency(module, keywords).value == pytest.approx(board.latency(module, pair).value)
    brief = nas.hw_profiles.Protocol(seconds=0.05)
    for runtime in ("torch", "onnxruntime"):
        assert measure(module, keywords, runtime=runtime, protocol=brief).median_ms > 0
    with pytest.raises(UserError, match="unexpected keyword argument 'words'"):
        nas.trace_cost(module, {"words": tokens()})


def test_a_forward_that_reads_its_mask_has_a_cost():
    class Reading(Net):
        def forward(self, tokens, mask):
            return super().forward(tokens, None if mask.all() else mask)

    module, whole = Reading().eval(), torch.ones(2, 9, dtype=torch.bool)
    cost = nas.trace_cost(module, {"tokens": tokens(), "mask": whole})
    assert cost.by_kind()["matmul"] == nas.trace_cost(net(), tokens()).by_kind()["matmul"]


def test_calibration_takes_keywords_and_nets_that_return_mappings():
    space = nas.SearchSpace(lambda trial: Net(trial.suggest_int("width", 16, 32, step=16))).quantized(schemes=["w4a8"])
    torch.manual_seed(0)
    module = space.build(space.largest).eval()
    by_name = nas.quantize(module, {"mask": mask(8), "tokens": tokens(8)})
    in_order = nas.quantize(module, [tokens(8), mask(8)])
    assert len(by_name.parts) == 2
    for name, part in by_name.parts.items():
        assert np.array_equal(part.codes, in_order.parts[name].codes)
    assert_same(by_name.module(tokens(), mask()), in_order.module(tokens(), mask()))
    with pytest.raises(UserError, match=r"does not take calibration data of shape \(2, 9\)"):
        nas.quantize(module, torch.rand(2, 9))


def cancelling(shift: float = 0.0) -> nn.Module:
    """Sums of 4,096 numbers around 1e4 that cancel to about 1: float32 leaves three digits of it."""
    net = nn.Sequential(nn.Linear(4096, 64))
    generator = torch.Generator().manual_seed(0)
    half = 1e4 * torch.randn(64, 2048, generator=generator)
    net[0].weight.data = torch.cat([half, -half * (1 + 1e-5 * torch.randn(64, 2048, generator=generator))], 1)
    net[0].bias.data.fill_(shift)
    return net.eval()


def test_a_file_may_differ_by_what_float32_leaves_open_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, net = torch.ones(1, 4096), cancelling()
    with torch.no_grad():
        exact = cancelling().double()(x.double())
        rounding = float(((net(x) - exact).abs() / exact.abs().clamp(min=1)).max())
    assert rounding > export_module.ONNX_TOLERANCE
    nas.export(net, x, tmp_path / "same", ["onnx-fixed"])
    other = cancelling(shift=2 * export_module.ROUNDING * rounding * float(exact.abs().clamp(min=1).max()))
    content = export_module.to_onnx(other, x, free_batch=False)
    monkeypatch.setattr(export_module, "to_onnx", lambda *_, **__: content)
    with pytest.raises(UserError, match="the ONNX file differs from the module"):
        nas.export(net, x, tmp_path / "other", ["onnx-fixed"])
    assert not (tmp_path / "other" / "model-fixed.onnx").exists()
