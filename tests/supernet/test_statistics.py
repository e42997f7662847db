"""Running statistics and other buffers: of the supernet, of what is extracted, exported, loaded and saved."""

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from example_spaces import GPT_LAYOUTS, gpt
from torch import nn

import nas
from nas.errors import UncalibratedWarning
from nas.search_space.buffers import persistent_buffers
from nas.supernet.export import save_bundle
from nas.supernet.statistics import with_statistics

TASK = nas.load_task("digits").subset(train=256, validation=64, test=64)
X = TASK.validation.inputs


def convolutions(trial):
    a, b = (trial.suggest_int(name, 4, 12, step=4) for name in "ab")
    norm = nn.BatchNorm2d if trial.suggest_categorical("norm", ["batch", "instance"]) == "batch" else instance_norm
    return nn.Sequential(
        nn.Conv2d(1, a, 3, 2, 1), nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, 3, 1, 1),
        nn.Sequential(*[nn.Identity()] * (norm is instance_norm), norm(b)),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, 10),
    )  # fmt: skip


def instance_norm(width):
    return nn.InstanceNorm2d(width, affine=True, track_running_stats=True)


SPACE = nas.SearchSpace(convolutions)


def trained(sampling="sandwich", steps=25, space=SPACE):
    supernet = nas.Supernet(space)
    nas.train(supernet, TASK, steps=steps, batch_size=32, sampling=sampling, lr=1e-2)
    return supernet


def alone(space=SPACE, steps=15):
    """The largest net, trained as a plain module."""
    net = space.build(space.largest)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(steps):
        x, y = TASK.batch(step, 32, 0)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


def own_loop(supernet, nets, steps=5):
    supernet.train()
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
    for step in range(steps):
        x, y = TASK.batch(step, 32, 0)
        optimizer.zero_grad()
        sum(nn.functional.cross_entropy(supernet(x, net), y) for net in nets).backward()
        optimizer.step()
    return supernet.eval()


def bundled(folder, net):
    save_bundle(folder, net, {}, {})
    return folder


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("sampling", ["sandwich", "uniform"])
def test_evaluation_extraction_export_and_loading_agree_to_the_last_digit(tmp_path, sampling):
    supernet = trained(sampling)
    nets = [SPACE.largest, SPACE.smallest, *(SPACE.sample(seed) for seed in range(3))]
    for net in nets:
        number = nas.evaluate_subnet(supernet, TASK, net)
        extracted = supernet.extract(net)  # no task: that of the training
        assert nas.evaluate(extracted, TASK) == number
        assert same(extracted.state_dict(), supernet.extract(net, TASK).state_dict())
    nas.export(extracted, TASK.example, tmp_path)
    loaded = nas.load(bundled(tmp_path, nets[-1]), SPACE)
    assert same(loaded.state_dict(), extracted.state_dict())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    assert (outputs.argmax(-1) == TASK.validation.targets.numpy()).mean() == pytest.approx(number)


def test_other_nets_and_other_supernets_do_not_move_what_is_measured():
    supernet = trained()
    before, states = nas.evaluate_subnet(supernet, TASK, SPACE.largest), supernet.state_dict()
    states = {name: tensor.clone() for name, tensor in states.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)
        for seed in range(20):
            supernet(X[:2], SPACE.sample(seed))
        nas.Supernet(SPACE).train()(X, SPACE.largest)  # on the same skeletons
    assert nas.evaluate_subnet(supernet, TASK, SPACE.largest) == before
    assert same(supernet.state_dict(), states)


def test_statistics_are_the_mean_over_training_inputs():
    supernet = trained()
    for net in (SPACE.smallest, SPACE.architecture({**SPACE.smallest, "norm": "instance"})):
        extracted = supernet.extract(net, TASK)
        x = torch.cat([TASK.batch(i, 256, 0, augment=False)[0] for i in range(8)])
        hidden = extracted[0](x)
        torch.testing.assert_close(extracted[1].running_mean, hidden.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
        hidden = extracted[1].train()(hidden)
        hidden = extracted[3](hidden.relu())
        layer = extracted[4][-1]
        torch.testing.assert_close(layer.running_mean, hidden.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
        assert all(not layer.training and layer.momentum == 0.1 for layer in with_statistics(supernet.extract(net)))


# Who says what


def test_uncalibrated_statistics_are_said():
    supernet = nas.Supernet(SPACE).eval()
    for net in (SPACE.smallest, SPACE.largest):
        with pytest.warns(UncalibratedWarning, match=r"supernet\.extract\(architecture, task\)"):
            supernet.extract(net)
    with pytest.warns(UncalibratedWarning):
        supernet(X, SPACE.smallest)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        supernet(X, SPACE.smallest)  # once is enough
        supernet.extract(SPACE.smallest, TASK)
        supernet.extract(SPACE.largest)  # on the same task


def test_a_checkpoint_of_the_largest_net_loads_with_its_statistics():
    net, supernet = alone(), nas.Supernet(SPACE).eval()
    state = net.state_dict() | {n: t for n, t in supernet.store.state_dict().items() if n not in net.state_dict()}
    supernet.store.load_state_dict(state)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(supernet(X, SPACE.largest), net(X))
        assert torch.equal(supernet.extract(SPACE.largest)(X), net(X))
        assert nas.evaluate_subnet(supernet, TASK, SPACE.largest) == nas.evaluate(net, TASK)
        assert same(supernet.extract(SPACE.largest, TASK).state_dict(), net.state_dict())
    assert nas.evaluate_subnet(supernet, TASK, SPACE.smallest) == nas.evaluate(supernet.extract(SPACE.smallest), TASK)


def test_what_the_largest_net_learns_alone_is_its_own_until_another_trains():
    space = nas.SearchSpace(lambda trial: convolutions(Fixed(trial)))
    supernet = own_loop(nas.Supernet(space), [space.largest])
    plain = space.build(space.largest)
    plain.load_state_dict(nas.Supernet(space).store.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for step in range(5):
        x, y = TASK.batch(step, 32, 0)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(supernet.extract(space.largest).state_dict(), plain.state_dict())
    copy = nas.Supernet(space)
    copy.load_state_dict(supernet.state_dict())
    assert same(copy.extract(space.largest).state_dict(), plain.state_dict())
    statistics = {n: b.clone() for n, b in supernet.store.named_buffers()}
    own_loop(supernet, [space.smallest], steps=1)
    assert same(dict(supernet.store.named_buffers()), statistics)  # the largest net's stay
    copy.load_state_dict(supernet.state_dict())
    for one in (supernet, copy):
        with pytest.warns(UncalibratedWarning):
            one.extract(space.largest)


class Fixed:
    """A trial without the choice of the norm: one net has all layers."""

    def __init__(self, trial):
        self.suggest_int = trial.suggest_int

    def suggest_categorical(self, _, options):
        return options[0]


def test_several_nets_may_share_one_backward():
    """Statistics that move between two forwards do not disturb autograd."""
    own_loop(nas.Supernet(SPACE), [SPACE.largest, SPACE.smallest, SPACE.largest], steps=2)


def test_a_killed_training_ends_with_the_same_statistics(tmp_path):
    recipe = nas.Recipe(steps=6, batch_size=32, checkpoint_every=2)
    undisturbed, resumed = nas.Supernet(SPACE), nas.Supernet(SPACE, seed=9)
    nas.train(undisturbed, TASK, recipe)

    def kill(step, *_):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nas.train(nas.Supernet(SPACE), TASK, recipe, run=tmp_path, progress=kill)
    nas.train(resumed, TASK, recipe, run=tmp_path)
    assert same(undisturbed.state_dict(), resumed.state_dict())
    assert "1.running_mean" in resumed.store.state_dict()


# Constants


class Table(nn.Module):
    """Constants of all kinds, and one that the net's own code moves."""

    def __init__(self, width, window):
        super().__init__()
        self.inp, self.out = nn.Linear(64, width), nn.Linear(width, 10)
        self.register_buffer("mask", torch.ones(8, 8).tril())
        self.register_buffer("waves", torch.arange(width) / width)  # no corner of a larger one's
        self.register_buffer("index", torch.arange(window * window).view(window, window))
        self.register_buffer("rows", torch.randn(width))
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)
        self.register_buffer("seen", torch.zeros(width))

    def forward(self, x):
        hidden = self.inp(x.flatten(1)) * self.scale + self.waves + self.rows + self.mask.sum() + self.index.sum()
        if self.training:
            self.seen = 0.5 * self.seen + 0.5 * hidden.mean(0).detach()
        return self.out(hidden - self.seen)


def tables(trial):
    return Table(trial.suggest_int("width", 4, 8, step=4), trial.suggest_categorical("window", [2, 3]))


def test_tables_that_are_no_corners_are_each_nets_own():
    space = nas.SearchSpace(tables)
    supernet = nas.Supernet(space)
    net = supernet.extract({"width": 4, "window": 2})
    assert torch.equal(net.waves, torch.arange(4) / 4)
    assert torch.equal(net.index, torch.arange(4).view(2, 2))
    assert torch.equal(net.mask, torch.ones(8, 8).tril())
    assert torch.equal(net.rows, supernet.store.rows[:4])  # random: as a parameter
    assert torch.equal(net.rows, nas.Supernet(space).extract({"width": 4, "window": 2}).rows)
    state = space.build(space.largest).state_dict()
    assert "<All keys matched" in str(supernet.store.load_state_dict(state))
    assert same(supernet.extract(space.largest).state_dict(), state)


def test_a_buffer_that_a_module_replaces_in_training_is_kept():
    space = nas.SearchSpace(tables)
    supernet = nas.Supernet(space)
    supernet(X, {"width": 8, "window": 3})
    assert supernet.store.seen.any()
    with pytest.warns(UncalibratedWarning):
        assert torch.equal(supernet.extract(space.smallest).seen, supernet.store.seen[:4])
    assert not space.skeleton(space.largest).seen.any()


class OwnNorm(nn.Module):
    """Not torch's, and with a rate of its own."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.2)
            return x - x.mean(0)
        return x - self.mean


@pytest.mark.parametrize("sampling", ["sandwich", "uniform"])
def test_statistics_of_any_module_are_measured(sampling):
    def function(trial):
        width = trial.suggest_int("width", 8, 32, step=8)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), OwnNorm(width), nn.ReLU(), nn.Linear(width, 10))

    supernet = trained(sampling, space=nas.SearchSpace(function))
    x = torch.cat([TASK.batch(i, 256, 0, augment=False)[0] for i in range(8)])
    for net in supernet.space.enumerate():
        extracted = supernet.extract(net)
        torch.testing.assert_close(extracted[2].mean, extracted[:2](x).mean(0), atol=1e-4, rtol=1e-3)
        number = nas.evaluate(extracted, TASK)
        assert number == nas.evaluate_subnet(supernet, TASK, net)
        fresh = nas.Supernet(supernet.space)
        fresh.load_state_dict(supernet.state_dict())
        assert nas.evaluate_subnet(fresh, TASK, net) == number


@pytest.mark.parametrize("make", [tables, convolutions], ids=["constants", "statistics"])
@pytest.mark.parametrize("where", [torch.float64, torch.bfloat16, "meta"], ids=str)
@pytest.mark.filterwarnings("ignore::nas.errors.UncalibratedWarning")
def test_buffers_follow_the_supernet(make, where):
    space = nas.SearchSpace(make)
    supernet = nas.Supernet(space).eval().to(where)
    for net in (space.largest, space.smallest):
        assert supernet(X.to(where), net).dtype == (where if where != "meta" else torch.float32)
        moved, built = supernet.extract(net), space.build(net).to(where)
        for a, b in zip(moved.buffers(), built.buffers(), strict=True):
            assert (a.dtype, a.device) == (b.dtype, b.device)
    back = supernet.to_empty(device="cpu").float() if where == "meta" else supernet.float()
    assert back(X, space.smallest).dtype == torch.float32
    assert all(b.dtype != torch.float64 for b in space.skeleton(space.smallest).buffers())  # others share it


def test_tied_tensors_load_under_all_their_names():
    space = nas.SearchSpace(gpt, layouts=GPT_LAYOUTS)
    net, supernet = space.build(space.largest), nas.Supernet(space)
    state = net.state_dict()
    assert "<All keys matched" in str(supernet.store.load_state_dict(state))
    assert same(supernet.extract(space.largest).state_dict(), state)
    assert persistent_buffers(net).keys() <= supernet.store.state_dict().keys()
    other = {**state, "lm_head.weight": state["lm_head.weight"] + 1}
    with pytest.raises(nas.UserError, match="are one tensor"):
        supernet.store.load_state_dict(other)


# Outputs that are not finite


@pytest.mark.parametrize("name", ["1.weight", "3.weight"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_have_no_metric(name, bad):
    def function(trial):
        hidden = trial.suggest_int("hidden", 4, 8)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    space = nas.SearchSpace(function)
    supernet = nas.Supernet(space)
    with torch.no_grad():
        supernet.store.get_parameter(name)[0 if name == "3.weight" else 7, 7] = bad
    good, broken = space.smallest, space.largest
    numbers = [nas.evaluate_subnet(supernet, TASK, broken), nas.evaluate(supernet.extract(broken), TASK)]
    quantized = supernet.serving(space.quantized(schemes=["w8a8", "w4a8"]))
    for net in (quantized.space.largest, quantized.space.architecture({**quantized.space.smallest, "hidden": 8})):
        numbers += [nas.evaluate_subnet(quantized, TASK, net)]
    assert np.isnan(numbers).all()
    assert np.isfinite(nas.evaluate_subnet(quantized, TASK, quantized.space.smallest))
    assert np.isfinite(nas.evaluate_subnet(supernet, TASK, good))
