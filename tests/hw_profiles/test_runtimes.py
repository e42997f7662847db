"""The contract of runtimes, over all that are installed: same outputs, repeatable, on the threads that are asked."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.hw_profiles.cost.onnx_file import to_onnx
from nas.hw_profiles.runtimes import load_runtime, runtime_names
from nas.hw_profiles.runtimes.base import installed
from nas.search_space.presets import load_preset
from nas.search_space.space import SearchSpace


def is_here(name: str) -> bool:
    try:
        load_runtime(name)
    except UserError:
        return False
    return True


HERE = [name for name in runtime_names() if is_here(name)]


class Net(nn.Module):
    """Convolution, attention, normalisation, a GELU: what the exporters and the runtimes must get right."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.qkv, self.out, self.dropout = nn.Linear(16, 48), nn.Linear(16, 5), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(self.dropout(nn.functional.gelu(x + y)).mean(1))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_onnxruntime_and_torch_are_here() -> None:
    assert {"onnxruntime", "torch"} <= set(HERE)


@pytest.mark.parametrize("name", HERE)
def test_outputs_are_those_of_torch_every_time(name: str, net: Net, x: Tensor) -> None:
    with torch.no_grad():
        expected = net(x).numpy()
    call = load_runtime(name).prepare(net.train(), (x,), 1)  # a runtime runs nets in evaluation mode
    for _ in range(3):
        (found,) = (torch.as_tensor(out).numpy() for out in call())
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", HERE)
def test_every_operator_of_a_space_runs(name: str) -> None:
    space = SearchSpace(load_preset("vit-digits").bind(input_shape=(1, 8, 8), classes=10))
    example = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        module = space.build(space.sample(seed)).eval()
        with torch.no_grad():
            expected = module(example).numpy()
        (found,) = load_runtime(name).prepare(module, (example,), 1)()
        assert np.abs(torch.as_tensor(found).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("name", [n for n in HERE if n not in ("torch", "tensorrt")])
def test_an_onnx_file_is_a_model(name: str, net: Net, x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net, x))
    (found,) = load_runtime(name).prepare(path, (x,), 1)()
    with torch.no_grad():
        assert np.abs(torch.as_tensor(found).numpy() - net(x).numpy()).max() < 1e-4


def test_torch_runs_on_the_threads_that_are_asked(net: Net, x: Tensor) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        load_runtime("torch").prepare(net, (x,), 1)()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_onnxruntime_starts_the_threads_that_are_asked(net: Net, x: Tensor) -> None:
    def tasks() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    assert threading.active_count() >= 1
    kept = [load_runtime("onnxruntime").prepare(net, (x,), 1)]
    one = tasks()
    kept.append(load_runtime("onnxruntime").prepare(net, (x,), 1))
    assert tasks() == one  # the caller's own thread is enough
    kept.append(load_runtime("onnxruntime").prepare(net, (x,), 3))
    assert tasks() == one + 2


def test_both_exporters_agree(net: Net, x: Tensor, tmp_path: Path) -> None:
    outputs = []
    for number, content in enumerate((to_onnx(net, x), to_onnx(net, x, free_batch=True))):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        outputs.append(load_runtime("onnxruntime").prepare(path, (x,), 1)()[0])
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-5


def test_what_is_not_here_says_so(x: Tensor) -> None:
    with pytest.raises(UserError, match="unknown runtime 'onnxruntim'; valid: onnxruntime"):
        load_runtime("onnxruntim")
    with pytest.raises(UserError, match="runtime torch runs modules, not files"):
        load_runtime("torch").prepare(Path("net.onnx"), (x,), 1)
    with pytest.raises(UserError, match=r"missing\.onnx cannot be read"):
        load_runtime("onnxruntime").prepare(Path("missing.onnx"), (x,), 1)
    assert not installed("no_such_package", "any")
    assert "pip install no_such_package" in installed("no_such_package", "any").why_not
