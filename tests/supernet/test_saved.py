"""What a supernet saves loads as the same supernet; anything else is refused in a sentence."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import nas
from nas.supernet.saved import NAME


class Net(nn.Module):
    """With statistics, a constant mask of infinities, a buffer that is drawn, and tied weights."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(8, width), nn.BatchNorm1d(width), nn.Linear(width, 8)
        self.head = nn.Linear(8, 3)
        self.module = self.head
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("drawn", torch.randn(4))

    def forward(self, x):
        return self.module(self.outer(self.norm(self.inner(x)).relu())) + self.mask[0] + self.drawn.sum()


def function(trial):
    return Net(trial.suggest_int("width", 4, 12, step=4))


SPACE = nas.SearchSpace(function)


def trained(space=SPACE, seed=3):
    supernet = nas.Supernet(space, seed=seed).train()
    for width in (4, 12):
        supernet(torch.randn(16, 8), {"width": width})
    with torch.no_grad():
        for parameter in supernet.store.parameters():
            parameter.add_(0.5)
    return supernet


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_loads_as_the_same_supernet(tmp_path, dtype):
    supernet = trained().to(dtype)
    supernet.steps = nn.ParameterDict({"inner|w4": nn.Parameter(torch.tensor([0.25]))})
    assert supernet.save(tmp_path / "a") == tmp_path / "a" / NAME
    loaded = nas.Supernet.load(tmp_path / "a", SPACE)
    assert not loaded.training
    assert same(dict(loaded.store.state_dict()), dict(supernet.store.state_dict()))
    assert same(dict(loaded.steps), dict(supernet.steps))
    assert loaded.store.statistics_of == supernet.store.statistics_of == "several"
    for name, buffer in supernet.shared.items():
        assert torch.equal(loaded.shared[name].initial, buffer.initial)
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a" / NAME).read_bytes() == (tmp_path / "b" / NAME).read_bytes()
    x = torch.randn(5, 8, dtype=dtype)
    loaded.train()
    supernet.train()
    for width in (4, 8, 12):
        assert torch.equal(loaded(x, {"width": width}), supernet(x, {"width": width}))


def test_whose_the_statistics_are_is_kept(tmp_path):
    supernet = nas.Supernet(SPACE).train()
    supernet(torch.randn(16, 8), {"width": 12})
    supernet.save(tmp_path)
    loaded = nas.Supernet.load(tmp_path, SPACE)
    assert loaded.store.statistics_of == "largest"
    assert loaded.is_calibrated(SPACE.largest)


def test_the_quantized_space_shares_the_file(tmp_path):
    supernet = trained()
    supernet.save(tmp_path)
    quantized = SPACE.quantized(schemes=("w8a8", "w4a16"))
    loaded = nas.Supernet.load(tmp_path, quantized)
    assert same(dict(loaded.store.state_dict()), dict(supernet.store.state_dict()))
    loaded.save(tmp_path)
    assert nas.Supernet.load(tmp_path, SPACE).space is SPACE


def other_options(trial):
    return Net(trial.suggest_int("width", 6, 12, step=6))


def other_gene(trial):
    return Net(trial.suggest_int("size", 4, 12, step=4))


def other_layout(trial):
    width = trial.suggest_int("width", 4, 12, step=4)
    net = Net(width)
    net.inner = nas.Linear(8, (2, width // 2))
    return net


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (other_options, r"gene 'width' has the options \[4, 8, 12\] there and has the options \[6, 12\] here"),
        (other_gene, "gene 'size' does not exist there and has the options"),
        (other_layout, "its tensors have other names, shapes or layouts"),
    ],
)
def test_another_space_is_refused(tmp_path, other, said):
    trained().save(tmp_path)
    with pytest.raises(nas.UserError, match=said):
        nas.Supernet.load(tmp_path, nas.SearchSpace(other))


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    content = trained().save(tmp_path).read_bytes()
    for at in range(0, len(content), 37):
        flipped = bytearray(content)
        flipped[at] ^= 0x04
        (tmp_path / NAME).write_bytes(flipped)
        with pytest.raises(nas.UserError, match=r"supernet\.safetensors"):
            nas.Supernet.load(tmp_path, SPACE)


@pytest.mark.parametrize("content", [b"", b"null", bytes(99)])
def test_other_content_is_refused(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(nas.UserError, match="is not a safetensors file"):
        nas.Supernet.load(tmp_path, SPACE)


def test_what_is_missing_foreign_or_not_finite_is_refused(tmp_path):
    with pytest.raises(nas.UserError, match="cannot be read"):
        nas.Supernet.load(tmp_path, SPACE)
    supernet = trained()
    path = supernet.save(tmp_path)
    save_file(load_file(path), path, {"supernet": json.dumps({"genes": {}})})
    with pytest.raises(nas.UserError, match="checksum"):
        nas.Supernet.load(tmp_path, SPACE)
    save_file(load_file(path), path)
    with pytest.raises(nas.UserError, match=r"not a file of `Supernet\.save`"):
        nas.Supernet.load(tmp_path, SPACE)
    path.unlink()
    supernet.store.head.weight.data[0, 0] = torch.nan
    with pytest.raises(nas.UserError, match=r"numbers of head\.weight are not finite"):
        supernet.save(tmp_path)
    assert not path.exists()
