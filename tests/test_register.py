"""Operators, tasks and devices from outside the package are found by their names, as those of the package are."""

import subprocess
import sys
import warnings
from importlib import import_module
from importlib.metadata import EntryPoint

import cloudpickle
import pytest
import torch
import yaml
from nas_command import nas_command
from torch import nn

import nas
from nas import plugins
from nas.hw_profiles import catalog
from nas.search_space.locate import describe_space, space_from
from nas.search_space.operators import base
from nas.tasks import registry


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Nothing that a test registers stays."""
    base.discover()
    for module in registry.MODULES.values():
        import_module(module, "nas.tasks")
    for module, name in ((base, "_REGISTRY"), (registry, "_loaders"), (catalog, "_registered")):
        monkeypatch.setattr(module, name, dict(vars(module)[name]))
    yield
    catalog._named.cache_clear()


def bottleneck():
    @nas.register.operator("ffn", "bottleneck", genes={"inner": (8, 16)}, causal=True)
    class Bottleneck(nn.Module):
        """Down and up again."""

        def __init__(self, width, inner):
            super().__init__()
            self.squeeze, self.widen = nn.Linear(width, inner), nn.Linear(inner, width)

        def forward(self, x, context):
            assert context.causal is False
            return self.widen(self.squeeze(x).relu())

    return Bottleneck


SPACE = {"patch": 4, "width": [16, 32], "layers": 2, "mixer": ["pool"], "ffn": ["mlp", "bottleneck"]}


def test_an_operator_works_in_a_space_of_the_package_and_in_a_file(tmp_path):
    assert bottleneck().__name__ == "Bottleneck"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    in_code = nas.SearchSpace(nas.TransformerSpace(**SPACE).bind((1, 8, 8), 10))
    for space in (in_code, space_from(describe_space(str(tmp_path / "mine.yaml"), (1, 8, 8), 10))):
        assert space.genes["layers.1.inner"].options == (8, 16)
        supernet = nas.Supernet(space)
        assert tuple(supernet.store.get_parameter("layers.1.ffn.squeeze.weight").shape) == (16, 32)
        net = {**space.largest, "layers.0.ffn": "bottleneck", "layers.0.inner": 8}
        assert tuple(supernet(torch.rand(3, 1, 8, 8), space.architecture(net)).shape) == (3, 10)


def test_an_operator_travels_with_the_space_to_a_process_that_has_not_registered_it(tmp_path):
    bottleneck()
    space = nas.SearchSpace(nas.TransformerSpace(**SPACE).bind((1, 8, 8), 10))
    net = space.architecture({**space.largest, "layers.0.ffn": "bottleneck", "layers.0.inner": 8})
    (tmp_path / "space").write_bytes(cloudpickle.dumps((space, net)))
    code = "import cloudpickle, sys; s, net = cloudpickle.load(open(sys.argv[1], 'rb')); print(s.build(net))"
    command = [sys.executable, "-c", code, str(tmp_path / "space")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == str(space.build(net)), ended.stderr


@pytest.mark.parametrize(
    ("arguments", "fields", "said"),
    [
        (("mixture", "mine"), {}, "unknown kind of operator 'mixture'; valid: mixer"),
        (("ffn", "mlp"), {}, "ffn 'mlp' is registered twice"),
        (("ffn", "a b"), {}, "the name of a operator has letters"),
        (("ffn", "mine"), {"casual": True}, "unknown capability 'casual'; valid: causal"),
        (("ffn", "mine"), {"layouts": ("gird",)}, "unknown layout of tokens 'gird'; valid: grid"),
        (("ffn", "mine"), {"genes": {}}, "no value for parameter 'inner'"),
        (("ffn", "mine"), {"genes": {"inner": (), "kernel": (3,)}}, "gene 'inner' has no options"),
        (("mixer", "mine"), {"genes": {"inner": (8,), "kernel": (99,)}}, "gene 'kernel' has the options .* in 'conv'"),
    ],
)
def test_a_wrong_operator_is_one_sentence(arguments, fields, said):
    class Mine(nn.Module):
        def __init__(self, width, inner, kernel=3):
            super().__init__()
            self.sizes = width, inner, kernel

    with pytest.raises(nas.UserError, match=said):
        nas.register.operator(*arguments, **{"genes": {"inner": (8,), "kernel": (3,)}, **fields})(Mine)


def test_a_cell_of_a_notebook_may_run_again():
    assert bottleneck() is not bottleneck()
    assert base.operator("ffn", "bottleneck").genes == {"inner": (8, 16)}


def test_a_task_is_found_by_its_name(tmp_path):
    @nas.register.task("half-digits")
    def half(argument):
        return nas.load_task("digits").subset(validation=int(argument or 50))

    assert "half-digits" in nas.task_names()
    assert len(nas.load_task("half-digits:30").validation) == 30
    space = tmp_path / "tiny.yaml"
    space.write_text(yaml.safe_dump({"patch": 4, "width": 16, "layers": 1, "mixer": "pool"}))
    ended = nas_command("train", "--task", "half-digits:40", "--space", space, "--run", tmp_path / "run", "--steps", 2)
    assert ended.code == 0, ended.err
    with pytest.raises(nas.UserError, match="there is a task 'digits' already"):
        nas.register.task("digits")(half)
    with pytest.raises(nas.UserError, match="the name of a task has letters"):
        nas.register.task("a:b")


def content(name, **fields):
    found = yaml.safe_load((catalog.DEVICES / "raspberry-pi-5.yaml").read_text())
    return {**found, "name": name, **fields}


def test_a_device_is_found_by_its_name(tmp_path):
    path = tmp_path / "my-board.yaml"
    path.write_text(yaml.safe_dump(content("my-board")))
    assert nas.register.device(path) == "my-board"
    assert nas.register.device(content("other-board", power_mode="10 W")) == "other-board"
    assert {"my-board", "other-board", "jetson-orin"} <= set(nas.device_names())
    found, original = (nas.load_device(name) for name in ("my-board", "raspberry-pi-5"))
    cost = nas.trace_cost(nn.Linear(8, 8), torch.rand(1, 8))
    assert found.latency(cost).value == original.latency(cost).value
    listed = nas_command("devices")
    assert "my-board" in listed.out
    assert "other-board" in listed.out
    assert nas_command("devices", "show", "other-board").code == 0
    assert nas_command("devices", "check", "other-board").code == 0


def test_a_wrong_device_is_one_sentence(tmp_path):
    with pytest.raises(nas.UserError, match="there is a device 'jetson-orin' already"):
        nas.register.device(content("jetson-orin"))
    nas.register.device(content("my-board"))
    nas.register.device(content("my-board"))  # the same: a cell that runs again
    with pytest.raises(nas.UserError, match="there is a device 'my-board' already"):
        nas.register.device(content("my-board", title="Another one"))
    with pytest.raises(nas.UserError, match="unit"):
        nas.register.device({n: v for n, v in content("x-board").items() if n != "unit"})
    with pytest.raises(nas.UserError, match="cannot be read"):
        nas.register.device(tmp_path / "none.yaml")
    assert "x-board" not in nas.device_names()


PLUGIN = """
import nas
from torch import nn

@nas.register.operator("mixer", "shift", causal=False, layouts={"sequence"})
class Shift(nn.Module):
    "Each token is the one after it."
    def __init__(self, width): super().__init__()
    def forward(self, x, context): return x.roll(1, 1)

assert "softmax" in [entry.name for entry in nas.search_space.operators.base.operators("mixer")]  # asks while it loads

def device():
    nas.register.device({"name": "plugged", **CONTENT})
CONTENT = None
"""


def test_plugins_register_when_names_are_looked_up(tmp_path, monkeypatch):
    (tmp_path / "nas_plugin_of_a_test.py").write_text(
        PLUGIN.replace("CONTENT = None", f"CONTENT = {content('plugged')!r}")
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = [
        EntryPoint("broken", "no_such_module", plugins.GROUP),
        EntryPoint("operators", "nas_plugin_of_a_test", plugins.GROUP),
        EntryPoint("device", "nas_plugin_of_a_test:device", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda **_: list(entries))
    plugins._waiting.cache_clear()
    with pytest.warns(UserWarning, match=r"plug-in 'broken' \(no_such_module\) fails and is left out: ModuleNotFound"):
        assert base.operator("mixer", "shift").capabilities.layouts == {"sequence"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "plugged" in nas.device_names()
    plugins._waiting.cache_clear()
