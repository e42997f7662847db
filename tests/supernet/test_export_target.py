"""The 8-bit ONNX file of a net: exact as it is opened by default, and of the kind that its target needs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from example_devices import a_device
from torch import nn

import nas
from nas.hw_profiles.runtimes.onnxruntime import exact_session
from nas.search.parity import codes_in_file
from nas.search_space.quantization import Scheme, quantizable


def saturating(scheme: str) -> tuple[nn.Module, torch.Tensor]:
    """A net whose weights all have the largest code, and inputs that do; the outputs are 64 times an input."""
    net = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 8, bias=False)).eval()
    with torch.no_grad():
        net[0].get_parameter("weight").fill_(1 / 64)
        net[1].get_parameter("weight").fill_(1)
    for part in quantizable(net).values():
        vars(part)["quantization"] = Scheme.parse(scheme)
    return net, torch.linspace(0, 1, 5)[:, None].expand(5, 64).contiguous()


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8s", "w8a8z", "w7a8"])
@pytest.mark.parametrize("exact", [None, False, True])
def test_a_file_computes_what_was_evaluated_where_it_runs(scheme: str, exact: bool | None, tmp_path: Path) -> None:
    net, x = saturating(scheme)
    found = nas.quantize(net, x)
    target = None if exact is None else a_device(kind="cpu", supports={"exact_sums": exact})
    path = nas.export(found, x, tmp_path, ["onnx-fixed"], target=target)["onnx-fixed"]
    tensors = onnx.load(path).graph.initializer
    kinds = {onnx.TensorProto.DataType.Name(t.data_type) for t in tensors if len(t.dims) == 2}
    assert kinds == {"INT8" if exact or scheme == "w7a8" else "UINT8"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if exact:  # a file for another processor than this one may be
        session = exact_session(path, unsigned=False)
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        assert np.allclose(outputs, found.module(x).numpy(), rtol=1e-5, atol=1e-5)
    assert np.allclose(outputs, 64 * x[:, :8].numpy(), atol=1)


def test_a_bundle_says_on_which_processors_its_file_is_right() -> None:
    (net, x), board = saturating("w8a8"), a_device(kind="embedded-gpu")
    found = nas.quantize(net, x)
    (said,) = codes_in_file(found, None).values()
    assert said == "unsigned: sums are exact on every processor"
    (said,) = codes_in_file(found, board).values()
    assert said.startswith("signed, for chip: on an x86 processor without VNNI sums saturate")
    assert codes_in_file(nas.quantize(*saturating("w7a8")), board) == {}
    assert codes_in_file(nas.quantize(*saturating("w8a16")), board) == {}


def test_export_names_a_part_that_half_precision_does_not_hold(tmp_path: Path) -> None:
    net, x = saturating("fp16")
    with torch.no_grad():
        net.get_submodule("1").get_parameter("weight").fill_(70000)
    with pytest.raises(nas.UserError, match=r"the weights of 1 reach from 70,000 to 70,000, and fp16"):
        nas.export(net, x[:1], tmp_path, ["onnx"])
    assert not list(tmp_path.iterdir())
