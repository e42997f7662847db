"""ONNX files of quantized nets: outputs are those of the integers that were given, on the right kernels."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.hw_profiles.cost.integers import Integers, plausible
from nas.hw_profiles.cost.onnx_file import quantized_onnx, to_onnx
from nas.hw_profiles.runtimes import load_runtime
from nas.hw_profiles.runtimes.base import onnx_bytes
from nas.search_space.presets import load_preset
from nas.search_space.quantization import Scheme, policy_of, quantizable
from nas.search_space.space import SearchSpace

SCHEMES = (
    "w8a8",
    "w6a8",
    "w4a8",
    "w2a8",
    "w8a16",
    "w8a16g32",
    "w5a16",
    "w4a16",
    "w4a16g24",
    "w4a16g64",
    "w2a16",
    "w16a16",
)


class Net(nn.Module):
    """Tokens with keys that are shared, a product of 2-D and one of 3-D inputs, one without a bias, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.stem = nn.Embedding(11, 24), nn.Conv1d(24, 40, 3, padding=1)
        self.q, self.k, self.v = nn.Linear(40, 40), nn.Linear(40, 40, bias=False), nn.Linear(40, 40)
        self.down, self.words, self.head = nn.Linear(40, 24), nn.Linear(24, 11, bias=False), nn.Linear(40, 5)
        self.words.weight = self.table.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(self.table(tokens).transpose(1, 2)).transpose(1, 2)
        x = x + self.q(x) * self.k(x) + self.v(x)
        return self.head(x.mean(1)), self.words(self.down(x))


class Images(nn.Module):
    """Convolutions in a row, one of them by groups, with a batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.norm, self.last = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.second(self.first(x).relu())).relu())
        return out


def under(scheme: str, module: nn.Module) -> dict[str, Integers]:
    """The policy on every part, and integers that nothing is special of: zeros and scales of all kinds."""
    rng, found = np.random.default_rng(0), {}
    for name, part in quantizable(module).items():
        parsed = vars(part)["quantization"] = Scheme.parse(scheme)
        if parsed.weights == 16:
            continue
        weight = part.weight
        assert isinstance(weight, Tensor)
        base = plausible(weight, parsed)
        zero = rng.integers(-1, 1, base.zero.shape) if name != "q" else base.zero
        scale = (base.scale * rng.uniform(0.9, 1.1, base.scale.shape)).astype(np.float32)
        signed = name == "head"
        activation = (0.02, 3 if signed else 120, signed) if parsed.activations == 8 else None
        found[name] = Integers(parsed, base.codes, scale, zero, activation)
    return found


def reference(module: nn.Module, parts: Mapping[str, Integers]) -> nn.Module:
    """The module in torch with the integers as floats."""
    module = copy.deepcopy(module).eval()
    for name, part in quantizable(module).items():
        weight = part.weight
        assert isinstance(weight, Tensor)
        if name in policy_of(module):
            part.weight = nn.Parameter(decoded(parts[name]) if name in parts else weight.half().float())
        if name in parts and parts[name].activation and not isinstance(part, nn.Embedding):
            part.register_forward_pre_hook(rounds(*parts[name].activation or (1.0, 0, True)))
    return module


def decoded(values: Integers) -> Tensor:
    columns = np.arange(values.matrix.shape[1]) // values.group
    scale, zero = (values.by_group(x)[:, columns] for x in (values.scale, values.zero))
    return torch.from_numpy((scale * (values.matrix - zero)).astype(np.float32).reshape(values.codes.shape))


def rounds(scale: float, zero: int, signed: bool) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    low = -128 if signed else 0

    def hook(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return (torch.clamp(torch.round(inputs[0] / scale) + zero, low, low + 255) - zero) * scale

    return hook


def run(content: bytes, *inputs: Tensor, optimized: Path | None = None) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # else old processors saturate
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {node.name: x.numpy() for node, x in zip(session.get_inputs(), inputs, strict=True)}
    return list(session.run(None, feed))


def kernels(content: bytes, path: Path, *inputs: Tensor) -> Counter[str]:
    """The operators that ONNX Runtime makes of a file."""
    run(content, *inputs, optimized=path)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def expected(module: nn.Module, parts: Mapping[str, Integers], x: Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        found = reference(module, parts)(x)
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]


def assert_alike(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float = 1e-6) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < tolerance * max(1.0, float(np.abs(other).max()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_outputs_are_those_of_the_integers(scheme: str) -> None:
    net, tokens = Net().eval(), torch.randint(0, 11, (2, 7))
    parts = under(scheme, net)
    assert_alike(run(quantized_onnx(net, tokens, parts), tokens), expected(net, parts, tokens))


@pytest.mark.parametrize("scheme", ["w8a8", "w4a16"])
def test_the_batch_may_be_free(scheme: str) -> None:
    net, tokens = Net().eval(), torch.randint(0, 11, (3, 7))
    parts = under(scheme, net)
    assert_alike(run(quantized_onnx(net, tokens[:1], parts, free_batch=True), tokens), expected(net, parts, tokens))


@pytest.mark.parametrize("scheme", ["w8a8", "w4a8", "w8a16", "w4a16g24", "w16a16"])
def test_convolutions_in_a_row(scheme: str) -> None:
    net, x = Images().eval(), torch.rand(2, 3, 11, 11)
    parts = under(scheme, net)
    # ONNX Runtime rounds biases of quantized convolutions: a code of the next one may be its neighbour.
    tolerance = 0.02 if "a8" in scheme else 1e-6
    assert_alike(run(quantized_onnx(net, x, parts), x), expected(net, parts, x), tolerance)


def test_convolutions_that_follow_each_other_run_as_integers(tmp_path: Path) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), torch.rand(1, 3, 9, 9)
    parts = {name: replace(part, activation=(0.02, 0, False)) for name, part in under("w8a8", net).items()}
    content = quantized_onnx(net, x, parts)
    assert kernels(content, tmp_path / "net.onnx", x)["QLinearConv"] == 1
    assert_alike(run(content, x), expected(net, parts, x), 0.02)


@pytest.mark.parametrize("shape", [(4, 40), (2, 3, 40), (2, 3, 5, 40)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("scheme", "kernel", "adds"), [("w8a8", "MatMulIntegerToFloat", {"Sub": 1}), ("w4a16", "MatMulNBits", {})]
)
def test_products_run_on_kernels_for_integers(
    shape: tuple[int, ...], bias: bool, scheme: str, kernel: str, adds: dict[str, int], tmp_path: Path
) -> None:
    net, x = nn.Sequential(nn.Linear(40, 7, bias=bias)), torch.rand(shape)
    parts = under(scheme, net)
    content = quantized_onnx(net, x, parts)
    found = kernels(content, tmp_path / "net.onnx", x)
    assert found == Counter({kernel: 1} | (adds if bias else {}) | ({"QuantizeLinear": 1} if "a8" in scheme else {}))
    assert_alike(run(content, x), expected(net, parts, x))


def test_parts_that_read_one_tensor_share_its_integers(tmp_path: Path) -> None:
    net, tokens = Net().eval(), torch.randint(0, 11, (2, 7))
    content = quantized_onnx(net, tokens, under("w8a8", net))
    found = kernels(content, tmp_path / "net.onnx", tokens)
    assert found["MatMulIntegerToFloat"] == 6
    assert found["QuantizeLinear"] == 5  # stem; q, k and v; down; words; head


def test_a_weight_that_is_read_elsewhere_stays_a_float_there() -> None:
    class Twice(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x @ self.weight

    net, x = Twice(16, 16), torch.rand(3, 16)
    parts = under("w2a16", net)
    with torch.no_grad():
        wanted = nn.functional.linear(x, decoded(parts[""]), net.bias) + x @ net.weight
    assert_alike(run(quantized_onnx(net, x, parts), x), [wanted.numpy()])


def test_schemes_may_differ_and_parts_may_have_none(tmp_path: Path) -> None:
    net, tokens = Net().eval(), torch.randint(0, 11, (2, 7))
    parts = {}
    for name, scheme in {"q": "w8a8", "k": "w4a16", "table": "w8a16", "head": "w4a8"}.items():
        parts[name] = under(scheme, net)[name]
    for name, part in quantizable(net).items():
        vars(part).pop("quantization")
        if name in parts:
            vars(part)["quantization"] = parts[name].scheme

    content = quantized_onnx(net, tokens, parts)
    found = kernels(content, tmp_path / "net.onnx", tokens)
    assert (found["MatMulIntegerToFloat"], found["MatMulNBits"]) == (2, 1)
    assert_alike(run(content, tokens), expected(net, parts, tokens))


def test_files_shrink_by_their_bits() -> None:
    net, x = nn.Sequential(*(nn.Linear(256, 256) for _ in range(4))), torch.rand(1, 256)
    plain = len(to_onnx(net, x))
    for scheme, ratio in {"w8a8": 3.7, "w4a8": 7, "w8a16": 3.7, "w4a16": 6.5, "w4a16g128": 7, "w16a16": 1.95}.items():
        under(scheme, net)
        assert ratio < plain / len(to_onnx(net, x)) < 32 / Scheme.parse(scheme).weights


@pytest.mark.slow
def test_files_hold_no_remarks_of_the_exporter() -> None:
    """Its stack traces take more bytes than the weights of a small net."""
    net, tokens = Net().eval(), torch.randint(0, 11, (1, 7))
    for content in (to_onnx(net, tokens, free_batch=True), quantized_onnx(net, tokens, free_batch=True)):
        nodes = onnx.load_from_string(content).graph.node
        assert not any(node.metadata_props or node.doc_string for node in nodes)


def test_a_policy_is_timed_with_plausible_scales() -> None:
    """Any net with a policy runs wherever nets are timed, and near to its floats where the scales fit."""
    options = load_preset("vit-digits").model_copy(update={"layers": 1, "least_layers": 1})
    space = SearchSpace(options.bind(input_shape=(1, 8, 8), classes=10)).quantized(
        schemes=["w8a8", "w4a16", "w16a16"], granularity="linear"
    )
    x = torch.rand(1, 1, 8, 8)
    for seed in range(3):
        module = space.build(space.sample(seed)).eval()
        (found,) = load_runtime("onnxruntime").prepare(module, (x,), 1)()
        with torch.no_grad():
            wanted = module(x).numpy()
        assert np.abs(torch.as_tensor(found).numpy() - wanted).max() < 0.3


def test_what_cannot_be_done_says_so() -> None:
    net, x = nn.Sequential(nn.Linear(16, 16)), torch.rand(1, 16)
    parts = under("w8a8", net)
    with pytest.raises(UserError, match=r"runtime torch runs floats.*onnxruntime"):
        load_runtime("torch").prepare(net, (x,), 1)
    with pytest.raises(UserError, match="w8a8 for 0, and no codes"):
        quantized_onnx(net, x, {})
    with pytest.raises(UserError, match="codes of 4 bits are int8 numbers from -8 to 7"):
        replace(parts["0"], scheme=Scheme.parse("w4a8"))
    under("w4a4", net)
    with pytest.raises(UserError, match=r"0 is to run as w4a4, .* use 8 or 16"):
        to_onnx(net, x)
    under("w4a16", net)
    with pytest.raises(UserError, match="MatMulNBits"):
        onnx_bytes(net, (x,), standard="openvino")


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.inner.weight * 2)


def test_a_weight_that_is_no_plain_operand_is_stored_in_its_bits_and_its_inputs_are_floats() -> None:
    net, x = Computed(), torch.rand(2, 8)
    parts = under("w8a8", net)
    with pytest.raises(UserError, match=r"inputs cannot be integers.*leave it out: keep='inner'"):
        quantized_onnx(net, x, parts)
    alone = {"inner": replace(parts["inner"], activation=None)}
    found = run(quantized_onnx(net, x, alone), x)
    with torch.no_grad():
        wanted = nn.functional.linear(x, decoded(alone["inner"]) * 2).numpy()
    assert_alike(found, [wanted])
    run(to_onnx(net, x), x)  # as it is timed


def test_layers_that_torch_fuses_are_translated_quickly_and_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """The slower exporter was taken for them, and the TorchScript one printed its whole graph."""
    net, x = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.rand(1, 4, 16)
    with mock.patch("torch.export.export", side_effect=AssertionError), torch.no_grad():
        assert_alike(run(to_onnx(net, x), x), [net(x).numpy()], 1e-5)
    assert torch.backends.mha.get_fastpath_enabled()
    assert capfd.readouterr() == ("", "")


def test_files_of_convolutions_without_a_bias_hold_no_float_weights() -> None:
    """The exporter computes biases of zeros from the shape of the weight."""
    net = nn.Sequential(*(m for _ in range(3) for m in (nn.Conv2d(32, 32, 3, bias=False), nn.BatchNorm2d(32)))).eval()
    x = torch.rand(2, 32, 9, 9)
    parts = under("w8a8", net)
    content = quantized_onnx(net, x, parts, free_batch=True)
    assert len(content) < 0.35 * sum(4 * p.numel() for p in net.parameters())
    assert_alike(run(content, x), expected(net, parts, x), 1e-4)


@pytest.mark.slow
def test_files_with_a_free_batch_do_not_compute_shapes_that_are_known() -> None:
    space = SearchSpace(load_preset("vit-fashion").bind((1, 28, 28), 10))
    net, x = space.build(space.smallest).eval(), torch.rand(2, 1, 28, 28)
    content = quantized_onnx(net, x, under("w4a16", net), free_batch=True)
    found = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert found["Shape"] == found["Softmax"]  # one of each attention; of the inputs none
    assert not {"CastLike", "Squeeze"} & found.keys()
    assert_alike(run(content, torch.cat([x, x])), [np.concatenate([run(content, x)[0]] * 2)], 1e-5)
