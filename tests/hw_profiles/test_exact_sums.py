"""Products of 8-bit codes whose sums do not fit into 16 bits: files are right everywhere, and know their target."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from example_devices import a_device
from torch import Tensor, nn

from nas.hw_profiles import load_device
from nas.hw_profiles.cost.integers import Integers
from nas.hw_profiles.cost.onnx_file import quantized_onnx
from nas.hw_profiles.policies import unsigned_weights
from nas.hw_profiles.runtimes.onnxruntime import exact_session, exact_sums
from nas.search_space.quantization import Scheme, quantizable

LARGEST = 255 * 127
"""Two such products exceed the 32,767 of 16 bits."""


class Convolutions(nn.Sequential):
    """The inputs of the second are codes, so that the first runs in integers."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 1, bias=False))


def saturating(net: nn.Module, scheme: str, codes: tuple[int, int]) -> dict[str, Integers]:
    """Weights of these codes in turns of rows, and inputs of one code a unit."""
    found = {}
    for name, part in quantizable(net).items():
        vars(part)["quantization"] = Scheme.parse(scheme)
        shape = tuple(part.get_parameter("weight").shape)
        rows = np.resize(np.array(codes, dtype=np.int8), shape[0])
        values = np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
        scale, zero = np.full(shape[0], 2.0**-15, np.float32), np.zeros(shape[0], np.int32)
        found[name] = Integers(Scheme.parse(scheme), values, scale, zero, (1.0, 0, False))
    return found


def run(session: onnxruntime.InferenceSession, x: Tensor) -> np.ndarray:
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return np.asarray(y)


def plain_session(content: bytes) -> onnxruntime.InferenceSession:
    """As a user opens a file: nothing is set."""
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("scheme", ["w8a8", "w8a8t"])
def test_sums_of_products_beyond_16_bits_are_exact(rows: int, scheme: str) -> None:
    net, x = nn.Sequential(nn.Linear(64, 16, bias=False)), torch.full((rows, 64), 255.0)
    content = quantized_onnx(net, x, saturating(net, scheme, (127, -127)))
    expected = np.resize([64 * LARGEST / 2**15, -64 * LARGEST / 2**15], (rows, 16))
    assert np.allclose(run(plain_session(content), x), expected, rtol=1e-6)


def test_sums_of_convolutions_are_exact() -> None:
    net, x = Convolutions(), torch.full((1, 4, 6, 6), 255.0)
    content = quantized_onnx(net, x, saturating(net, "w8a8", (127, -127)))
    first = 36 * LARGEST / 2**15  # 35.6, and negative ones become 0
    expected = 2 * round(first) * 127 / 2**15
    assert np.allclose(run(plain_session(content), x)[0, ::2], expected, rtol=1e-5)
    assert np.allclose(run(plain_session(content), x)[0, 1::2], -expected, rtol=1e-5)


@pytest.mark.parametrize("unsigned", [True, False])
def test_a_file_for_any_target_is_compared_without_saturation(unsigned: bool) -> None:
    net, x = nn.Sequential(nn.Linear(64, 16, bias=False)), torch.full((3, 64), 255.0)
    content = quantized_onnx(net, x, saturating(net, "w8a8", (127, 127)), unsigned=unsigned)
    kinds = {t.data_type for t in onnx.load_from_string(content).graph.initializer if len(t.dims) == 2}
    assert kinds == {onnx.TensorProto.UINT8 if unsigned else onnx.TensorProto.INT8}
    assert np.allclose(run(exact_session(content, unsigned=unsigned), x), 64 * LARGEST / 2**15, rtol=1e-6)


def test_what_the_processor_does_is_seen() -> None:
    """Signed weights are right without any setting where sums are said to be exact, and only there."""
    net, x = nn.Sequential(nn.Linear(64, 16, bias=False)), torch.full((3, 64), 255.0)
    content = quantized_onnx(net, x, saturating(net, "w8a8", (127, 127)), unsigned=False)
    assert np.allclose(run(plain_session(content), x), 64 * LARGEST / 2**15, rtol=1e-6) == exact_sums()


def test_weights_of_7_bits_cannot_saturate_and_stay_signed() -> None:
    net, x = nn.Sequential(nn.Linear(64, 16, bias=False)), torch.full((3, 64), 255.0)
    content = quantized_onnx(net, x, saturating(net, "w7a8", (63, -64)))
    kinds = {t.data_type for t in onnx.load_from_string(content).graph.initializer if len(t.dims) == 2}
    assert kinds == {onnx.TensorProto.INT8}
    assert np.allclose(run(plain_session(content), x), np.resize(64 * 255 / 2**15 * np.array([63, -64]), (3, 16)))


@pytest.mark.parametrize(
    ("kind", "exact", "unsigned"),
    [
        ("cpu", True, False),
        ("cpu", False, True),
        ("cpu", None, True),
        ("npu", None, False),
        ("server-gpu", None, False),
    ],
)
def test_the_device_file_says_which_weights_a_target_gets(kind: str, exact: bool | None, unsigned: bool) -> None:
    assert unsigned_weights(a_device(kind=kind, supports={"exact_sums": exact})) == unsigned


def test_this_machine_is_tried() -> None:
    assert unsigned_weights(load_device("local-cpu")) == (not exact_sums())
    assert not unsigned_weights(load_device("core-i7-12700h"))
    assert unsigned_weights(load_device("xeon-e5-2640"))
