"""Other quantizers on the same trained net: accuracy on the test split, milliseconds of one input, bytes of the file.

    python scripts/bench_quantize_peers.py --run runs/quantize      (pip install nncf torchao)

The largest net of the supernet that `bench_quantize.py` trains in the run folder; the same 32 images to calibrate on.
ONNX Runtime's own quantizers, NNCF's ONNX backend; torchao in torch, saved as torch saves it. Timed in turns.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from bench_quantize import PRESET, supernets, uniform

import nas
from nas.hw_profiles import Protocol, measure_all
from nas.supernet.quantize.post_training import SAMPLES
from nas.supernet.shipped import quantized_for


class Reader:
    """Calibration data as ONNX Runtime's quantizers read them."""

    def __init__(self, name: str, inputs: torch.Tensor) -> None:
        self.rows = iter([{name: inputs.numpy()}])

    def get_next(self) -> Any:
        return next(self.rows, None)


def onnx_peers(plain: Path, name: str, inputs: torch.Tensor, folder: Path) -> dict[str, Callable[[], Path]]:
    import nncf
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = folder / "ready.onnx"
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)

    def static(per_channel: bool = True) -> Path:
        how = {"per_channel": per_channel, "weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8}
        quantize_static(ready, folder / f"static-{per_channel}.onnx", Reader(name, inputs), **how)
        return folder / f"static-{per_channel}.onnx"

    def dynamic() -> Path:
        quantize_dynamic(ready, folder / "dynamic.onnx", per_channel=True, weight_type=QuantType.QInt8)
        return folder / "dynamic.onnx"

    def four() -> Path:
        quantizer = MatMulNBitsQuantizer(onnx.load(plain), bits=4, block_size=32, is_symmetric=True)
        quantizer.process()
        quantizer.model.save_model_to_file(str(folder / "four.onnx"))
        return folder / "four.onnx"

    def nncf_static() -> Path:
        data = nncf.Dataset(list(inputs.split(1)), lambda x: {name: x.numpy()})
        made = nncf.quantize(onnx.load(plain), data, subset_size=SAMPLES, model_type=nncf.ModelType.TRANSFORMER)
        onnx.save(made, folder / "nncf.onnx")
        return folder / "nncf.onnx"

    def nncf_four() -> Path:
        mode = nncf.CompressWeightsMode.INT4_SYM
        made = nncf.compress_weights(onnx.load(plain), mode=mode, group_size=32, all_layers=True)
        onnx.save(made, folder / "nncf4.onnx")
        return folder / "nncf4.onnx"

    return {
        "w8a8 ONNX Runtime, static": static,
        "w8a8 ONNX Runtime, static, tensors": lambda: static(False),
        "w8a8 ONNX Runtime, dynamic": dynamic,
        "w8a8 NNCF": nncf_static,
        "w4a16 ONNX Runtime, MatMulNBits": four,
        "w4a16 NNCF": nncf_four,
    }


def tried(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        return None


def file_accuracy(path: Path, task: nas.Task) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = [(session.run(None, {name: x.numpy()})[0].argmax(1) == y.numpy()) for x, y in task.test.batches(256)]
    return float(np.concatenate(right).mean())


def torchao_peers(net: torch.nn.Module, task: nas.Task) -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    four = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32))
    configs = {
        "float torch": None,
        "w8a8 torchao, dynamic": Int8DynamicActivationInt8WeightConfig(),
        "w4a16 torchao": four,
    }
    made = {}
    for name, config in configs.items():
        made[name] = deepcopy(net)
        if config is not None and tried(lambda n=name, c=config: quantize_(made[n], c) or True, name) is None:
            del made[name]
    timed = measure_all([(m, task.example) for m in made.values()], runtime="torch", threads=1)
    for (name, module), t in zip(made.items(), timed, strict=True):
        buffer = io.BytesIO()
        torch.save(module.state_dict(), buffer)
        correct = tried(lambda m=module: nas.evaluate(m, task, "test"), name) or 0.0
        print(f"{name:34} {100 * correct:.2f} %  {t.median_ms:.3f} ms  {len(buffer.getvalue()):,} bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args()
    task, folder = nas.load_task("fashion-mnist"), Path(tempfile.mkdtemp())
    floats, quantized = supernets(task, PRESET, ["w8a8", "w4a16"], 2500, args.run / "supernet")
    largest = floats.space.largest
    net = floats.extract(largest).eval()
    files = {"float": nas.export(net, task.example, folder / "float", ["onnx"])["onnx"]}
    for scheme in ("w8a8", "w4a16"):
        shipped = quantized_for(quantized.extract(uniform(quantized.space, largest, scheme)), task)
        files[f"{scheme} nas"] = nas.export(shipped, task.example, folder / scheme, ["onnx"])["onnx"]
    name = onnxruntime.InferenceSession(files["float"]).get_inputs()[0].name
    for peer, make in onnx_peers(files["float"], name, task.calibration_inputs(SAMPLES), folder).items():
        if (path := tried(make, peer)) is not None:
            files[peer] = path
    right = {label: tried(lambda p=path: file_accuracy(p, task), label) for label, path in files.items()}
    files = {label: path for label, path in files.items() if right[label] is not None}
    pairs: list[Any] = [(path, task.example) for path in files.values()]
    timed = measure_all(pairs, runtime="onnxruntime", threads=1, protocol=Protocol(seconds=4))
    for (label, path), t in zip(files.items(), timed, strict=True):
        print(f"{label:34} {100 * right[label]:.2f} %  {t.median_ms:.3f} ms  {path.stat().st_size:,} bytes", flush=True)
    torchao_peers(net, task)


if __name__ == "__main__":
    main()
