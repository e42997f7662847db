"""Peak memory of a net: what a process of its own takes up beyond the runtime itself."""

import subprocess
import sys
import tempfile
from pathlib import Path

from ...errors import UserError
from ...search_space.inputs import Inputs
from ..runtimes.base import Model, onnx_bytes

RUNS = 3
CHILD = f"""
import sys, numpy, onnxruntime as ort

def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

options = ort.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = int(sys.argv[2]), 3
before = kib("VmRSS")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
types = {{"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(bool)": "?"}}
feed = {{i.name: numpy.zeros(i.shape, types[i.type]) for i in session.get_inputs()}}
for _ in range({RUNS}):
    session.run(None, feed)
print(kib("VmHWM") - before)
"""


def peak_memory_mib(model: Model, inputs: Inputs, threads: int = 1) -> float:
    """Peak resident memory (MiB) of loading and running a net with ONNX Runtime, over that of the bare process.

    A fresh process each time: allocators do not give back what an earlier net took. Zeros are the inputs.
    Errors: not Linux, where the kernel keeps no such peak; the runtime fails on the net.
    """
    if not sys.platform.startswith("linux"):
        raise UserError("peak memory is measured on Linux only: the kernel keeps it in /proc")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        path.write_bytes(onnx_bytes(model, inputs))
        result = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(threads)], capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise UserError(f"the memory of a net was not measured: {(result.stderr.strip().splitlines() or ['?'])[-1]}")
    return int(result.stdout) / 1024
