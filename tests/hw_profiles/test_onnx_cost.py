"""The cost of ONNX files: against the trace of the module that was exported, and against closed forms."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from nas.errors import UserError
from nas.hw_profiles.cost import Cost, fused, trace_cost
from nas.hw_profiles.cost.onnx_file import to_onnx
from nas.search_space.presets import load_preset, preset_names
from nas.search_space.space import SearchSpace

LARGE = {"vit-mobile", "vit-image"}
SHAPES = {"vit-digits": (1, 8, 8), "vit-image": (3, 32, 32), "vit-mobile": (3, 224, 224)}
PRODUCTS = ("matmul", "convolution", "depthwise", "attention")
BYTES = 0.10
"""Tolerance of the traffic, after fusion: the graph repeats the keys of grouped queries, the trace does not."""


def exported(folder: Path, module: nn.Module, example: Tensor, **options: Any) -> Path:
    """The file of the module, with weights that differ: exporters merge equal ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1, generator=generator)
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(module.eval(), example, **options))
    return path


def products(cost: Cost) -> float:
    return sum(total.flops for kind, total in cost.by_kind().items() if kind in PRODUCTS)


@pytest.mark.parametrize("which", ["smallest", "largest"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in preset_names()])
def test_presets_cost_what_their_trace_says(name: str, which: str, tmp_path: Path) -> None:
    shape = SHAPES.get(name, (1, 28, 28))
    space = SearchSpace(load_preset(name).bind(shape, classes=10))
    net, example = space.build(getattr(space, which)), torch.zeros(1, *shape)
    traced = trace_cost(net, example)
    read = trace_cost(exported(tmp_path, net, example))
    assert (read.params, read.kv_cache_bytes) == (traced.params, traced.kv_cache_bytes)
    # The trace has attention in one piece, its softmax included.
    softmax = sum(op.flops for op in read.operators if op.name == "Softmax")
    assert products(read) + softmax == pytest.approx(products(traced), rel=0.01)
    assert fused(read).bytes == pytest.approx(fused(traced).bytes, rel=BYTES)
    assert read.peak_activation_bytes >= 0.99 * traced.peak_activation_bytes


class Mixed(nn.Module):
    """Depthwise and plain convolutions, recurrence, gather, scan, a loop of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.gru = nn.GRU(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.depthwise = nn.Conv1d(32, 32, 3, padding=1, groups=32)
        self.point = nn.Conv1d(32, 4, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x, _ = self.gru(self.embedding(ids))
        out: Tensor = self.point(self.depthwise(x.transpose(1, 2))).cumsum(-1)
        return out


def test_classes_of_a_mixed_net_agree(tmp_path: Path) -> None:
    net, ids = Mixed(), torch.zeros(2, 6, dtype=torch.long)
    costs = trace_cost(net, ids), trace_cost(exported(tmp_path, net, ids))
    traced, read = (cost.by_kind() for cost in costs)
    blocks = [[(o.length, o.channels) for o in c.operators if o.kind in ("convolution", "depthwise")] for c in costs]
    assert blocks[0] == blocks[1] == [(3, 32), (32, 4)]
    assert read["scan"].flops == traced["scan"].flops == 4 * 6 * 2 * 3 * 16 * (24 + 48) + 48
    for kind in ("convolution", "depthwise", "gather"):
        assert (read[kind].flops, read[kind].bytes) == (traced[kind].flops, traced[kind].bytes)  # type: ignore[index]


@pytest.mark.slow
def test_a_free_batch_takes_its_size_from_the_example(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    path = exported(tmp_path, net, torch.zeros(1, 3, 8, 8), free_batch=True)
    symbol = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    with pytest.raises(UserError, match=rf"free dimension '{symbol}'.*example=\{{'{symbol}': 1\}}"):
        trace_cost(path)
    by_tensor, by_name = trace_cost(path, torch.zeros(4, 3, 8, 8)), trace_cost(str(path), {symbol: 4})
    assert by_tensor == by_name
    assert by_tensor.by_kind()["convolution"].flops == 2 * 4 * 8 * 36 * 27
    with pytest.raises(UserError, match="is 3 in the ONNX graph, and 1 in the example"):
        trace_cost(path, torch.zeros(4, 1, 8, 8))


def saved(
    path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]], **weights: tuple[int, ...]
) -> Path:
    """A file with external weights that are not there."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    out = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    tensors = []
    for name, shape in weights.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="nowhere.bin")
        tensors.append(tensor)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", given, out, tensors)
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def test_external_weights_are_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, w=(3, 5))
    cost = trace_cost(path, precision="w8a16")
    (op,) = cost.operators
    assert (op.kind, op.flops, op.bytes_read, op.bytes_written) == ("matmul", 60, 2 * 6 + 15, 2 * 10)
    assert (cost.params, cost.weight_bytes, cost.peak_activation_bytes) == (15, 15, 2 * 16)


@pytest.mark.parametrize(
    ("node", "shapes", "kv"),
    [
        (helper.make_node("Attention", ["q", "k", "v"], ["y"]), ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)), 2),
        (
            helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=2),
            ((2, 5, 32), (2, 7, 16), (2, 7, 16)),
            2,
        ),
        (
            helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=4),
            ((2, 5, 32), (2, 7, 32), (2, 7, 32)),
            4,
        ),
    ],
)
def test_attention_operators(
    node: onnx.NodeProto, shapes: tuple[tuple[int, ...], ...], kv: int, tmp_path: Path
) -> None:
    cost = trace_cost(saved(tmp_path / "a.onnx", [node], dict(zip("qkv", shapes, strict=True))))
    (op,) = cost.operators
    assert (op.kind, op.flops) == ("attention", 2 * 4 * 5 * 7 * (4 * 8 + 5))
    assert cost.kv_cache_bytes == 4 * 2 * (2 * kv * 7 * 8)


def test_a_scan_runs_its_body_for_each_element(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "u"], ["p"]), helper.make_node("Add", ["p", "e"], ["t"]),
         helper.make_node("Identity", ["t"], ["o"])],
        "body",
        [info("s", 1, (2, 3)), info("e", 1, (2, 3))],
        [info("t", 1, (2, 3)), info("o", 1, (2, 3))],
    )  # fmt: skip
    node = helper.make_node("Scan", ["s0", "xs"], ["last", "all"], num_scan_inputs=1, body=body)
    total = trace_cost(saved(tmp_path / "s.onnx", [node], {"s0": (2, 3), "xs": (9, 2, 3)}, u=(3, 3))).by_kind()
    assert (total["matmul"].kernels, total["matmul"].flops) == (9, 9 * 2 * 2 * 3 * 3)
    assert (total["elementwise"].kernels, total["elementwise"].flops) == (9, 9 * 6)


def test_what_is_no_onnx_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(UserError, match="cannot be read"):
        trace_cost(path)
    path.write_bytes(b"no model at all")
    with pytest.raises(UserError, match="no ONNX file"):
        trace_cost(path)
    with pytest.raises(UserError, match="needs an example"):
        trace_cost(nn.Linear(2, 2))


def test_shapes_that_depend_on_data_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "n.onnx", [helper.make_node("NonZero", ["x"], ["y"])], {"x": (2, 3)})
    with pytest.raises(UserError, match=r"NonZero.*depends on data"):
        trace_cost(path)


def test_a_loop_runs_as_often_as_it_says(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "u"], ["t"])],
        "body",
        [info("i", TensorProto.INT64, ()), info("go", TensorProto.BOOL, ()), info("s", 1, (2, 3))],
        [info("go", TensorProto.BOOL, ()), info("t", 1, (2, 3))],
    )
    trips = helper.make_node("Constant", [], ["n"], value_int=7)
    loop = helper.make_node("Loop", ["n", "", "s0"], ["last"], body=body)
    total = trace_cost(saved(tmp_path / "l.onnx", [trips, loop], {"s0": (2, 3)}, u=(3, 3))).by_kind()
    assert (total["matmul"].kernels, total["matmul"].flops) == (7, 7 * 2 * 2 * 3 * 3)


def test_operators_of_onnx_runtime_have_shapes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", transB=1),
        helper.make_node("QuickGelu", ["y"], ["z"], domain="com.microsoft"),
    ]
    product, gelu = trace_cost(saved(tmp_path / "f.onnx", nodes, {"x": (2, 3)}, w=(5, 3))).operators
    assert (product.flops, product.bytes_written) == (2 * 2 * 5 * 3, 4 * 10)
    assert (gelu.kind, gelu.flops) == ("elementwise", 10)


def test_quantized_weights_stay_narrow(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["wide"], axis=1),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    path = saved(tmp_path / "q.onnx", nodes, {"x": (2, 3)}, w=(3, 5), scale=(5,))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].data_type = TensorProto.INT8
    onnx.save(model, path)
    cost = trace_cost(path, precision="fp16")
    (op,) = cost.operators
    assert op.bytes_read == 2 * 6 + 15
    assert (cost.params, cost.weight_bytes) == (15, 15 + 2 * 5)
