"""Training: samplings, distillation, no drift, resumption to the bit, the divergence alarm."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from example_spaces import vit
from torch import nn

from nas.errors import UserError
from nas.search_space.corner import corner
from nas.search_space.space import SearchSpace
from nas.search_space.transformer import TransformerSpace
from nas.supernet.alarm import Alarm
from nas.supernet.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from nas.supernet.distill import alpha, distilled, kl
from nas.supernet.evaluate import evaluate_subnet
from nas.supernet.group import part_of
from nas.supernet.health import check_health, spread
from nas.supernet.optimizer import CornerAdamW, region
from nas.supernet.recipe import Recipe, make_recipe
from nas.supernet.sampling import GROWN, SAMPLINGS, granularities, sampling, within
from nas.supernet.store import Supernet
from nas.supernet.train import train
from nas.supernet.trainer import Trainer
from nas.tasks import Split, Task, load_task
from nas.tasks.outputs import class_axis

SPACE = SearchSpace(vit)
TASK = load_task("digits").subset(train=256, validation=64, test=64)


class Net(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        return self.head(self.body(x))


def mlp(trial):
    return Net(trial.suggest_categorical("width", [8, 16, 32]), trial.suggest_categorical("ffn", [8, 16, 32]))


MLP = SearchSpace(mlp)


def weights(supernet):
    return {n: p.detach().clone() for n, p in supernet.store.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_every_sampling_runs_members_and_trains(name):
    rng = np.random.default_rng(0)
    passes = sampling(name)(MLP, rng, 2)
    assert all(p.architecture in MLP for p in passes)
    assert not passes[0].distils
    supernet = Supernet(MLP)
    history = train(supernet, TASK, steps=100, batch_size=64, sampling=name, lr=1e-2)
    assert len(history.rows) == 100
    first, last = (np.mean([r["loss"] for r in rows]) for rows in (history.rows[:10], history.rows[-10:]))
    assert last < 0.8 * first
    assert evaluate_subnet(supernet, TASK, MLP.largest) > 0.4


def test_sandwich_runs_the_largest_first_and_the_smallest():
    passes = sampling("sandwich")(MLP, np.random.default_rng(0), 2)
    assert (passes[0].architecture, passes[-1].architecture) == (MLP.largest, MLP.smallest)
    assert [p.distils for p in passes] == [False, True, True, True]


def test_progressive_draws_small_numbers_first_and_all_in_the_end():
    def drawn(space, done):
        rng = np.random.default_rng(0)
        return [sampling("progressive")(space, rng, 2, done)[0].architecture for _ in range(60)]

    assert {(a["width"], a["ffn"]) for a in drawn(MLP, 0.0)} == {(8, 8)}
    assert {a["width"] for a in drawn(MLP, 0.6)} == {8, 16}
    assert {a["width"] for a in drawn(MLP, GROWN)} == {8, 16, 32}


def test_progressive_leaves_layers_out_first_and_draws_all_alternatives():
    space = TransformerSpace(patch=4, width=[8, 16], layers=2, least_layers=1, mixer=["softmax", "none"], ffn="mlp")
    space, rng = SearchSpace(space.bind((1, 8, 8), 10)), np.random.default_rng(0)
    early, late = ([within(space, rng, share) for _ in range(60)] for share in (0.5, 0.51))
    assert {a["layers.1.keep"] for a in early} == {False}
    assert {a["layers.1.keep"] for a in late} == {False, True}
    assert {a["layers.0.mixer"] for a in early} == {"softmax", "none"}


def test_progressive_keeps_the_requirements_of_a_space():
    space = SearchSpace(mlp)
    space.require(lambda a: a["width"] == 32, "wide")
    assert within(space, np.random.default_rng(0), 0.1)["width"] == 32


def test_defaults_where_outputs_are_tokens():
    tokens = replace(TASK, outputs="tokens")
    assert make_recipe(None, {}, TASK) == make_recipe(None, {}) == Recipe()
    chosen = make_recipe(Recipe(lr=1e-3), {"seed": 1}, tokens)
    assert (chosen.sampling, chosen.distill, chosen.steps, chosen.lr) == ("progressive", "none", 4800, 1e-3)
    assert make_recipe(None, {"steps": 5}, tokens).steps == 5
    for stated in ({"sampling": "sandwich"}, {"distill": "alpha"}, {"qat": True}):
        assert make_recipe(None, stated, tokens) == Recipe(**stated)


def test_the_rate_of_progressive_sampling_falls_in_the_last_fifth():
    rates = [Recipe(sampling="progressive", steps=100, lr=1.0).learning_rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:81] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - step / 20 for step in range(20)])
    cosine = Recipe(steps=100, lr=1.0)
    assert cosine.learning_rate(55) == pytest.approx(0.5)


def test_matformer_runs_every_granularity_of_the_ffn_alone():
    found = granularities(MLP)
    assert [a["ffn"] for a in found] == [32, 16, 8]
    assert {a["width"] for a in found} == {32}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_loss_of_the_largest_net_is_in_the_rows_of_the_steps_that_run_it(name):
    recipe = Recipe(sampling=name, steps=60, batch_size=32, random_nets=1)
    trainer = Trainer(Supernet(MLP), TASK, recipe, None)
    ran = [
        MLP.largest in [p.architecture for p in sampling(name)(MLP, np.random.default_rng([0, step, 0]), 1, step / 60)]
        for step in range(60)
    ]
    rows = [trainer.advance() for _ in ran]
    assert ["largest_loss" in row for row in rows] == ran
    assert all(ran) == (name in ("sandwich", "matformer"))
    if name == "uniform":
        assert any(ran)
        assert all(row["largest_loss"] == row["loss"] for row in rows if "largest_loss" in row)


def test_multi_arch_covers_the_batch_once():
    parts = [p.part for p in sampling("multi-arch")(MLP, np.random.default_rng(0), 2)]
    rows = [r for part in parts for r in part_of(torch.arange(10), part).tolist()]
    assert rows == list(range(10))


def test_multi_arch_equals_the_mean_over_parts():
    """One step's gradient is that of the separate subnets on their rows."""
    supernet = Supernet(MLP)
    trainer = Trainer(supernet, TASK, Recipe(steps=2, batch_size=32, sampling="multi-arch", seed=3), None)
    supernet.eval()
    trainer.supernet.train = lambda: supernet  # dropout off, for the comparison
    trainer._gradients()
    found = {n: p.grad.clone() for n, p in supernet.store.named_parameters()}
    supernet.zero_grad()
    x, y = TASK.batch(0, 32, 3)
    passes = sampling("multi-arch")(MLP, np.random.default_rng([3, 0, 0]), 2)
    parts = [slice(8 * i, 8 * i + 8) for i in range(4)]
    losses = [TASK.loss(supernet(x[rows], p.architecture), y[rows]) for rows, p in zip(parts, passes, strict=True)]
    (sum(losses) / 4).backward()
    for n, p in supernet.store.named_parameters():
        torch.testing.assert_close(found[n], p.grad, atol=1e-6, rtol=1e-5)


# No drift


def adamw_reference(values, gradients, lr, decay):
    p = nn.Parameter(values.clone())
    optimizer = torch.optim.AdamW([p], lr=lr, weight_decay=decay, betas=(0.9, 0.99))
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


def test_on_whole_tensors_it_is_torchs_adamw():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 4, generator=generator)
    gradients = [torch.randn(6, 4, generator=generator) for _ in range(5)]
    p = nn.Parameter(values.clone())
    optimizer = CornerAdamW({"w": p}, weight_decay=0.1)
    for g in gradients:
        p.grad = g.clone()
        optimizer.step(0.01, {"w": [corner(((6,), (4,)), ((6,), (4,)))]})
    torch.testing.assert_close(p.detach(), adamw_reference(values, gradients, 0.01, 0.1))


def test_entries_outside_the_corners_keep_value_and_moments():
    full = ((6,), (6,))
    wide, tall = corner(((2,), (6,)), full), corner(((6,), (2,)), full)
    bounding, (covered,) = region([wide, tall])
    assert bounding.kept == (6, 6)
    assert covered.sum() == 12 + 12 - 4
    p = nn.Parameter(torch.ones(6, 6))
    optimizer = CornerAdamW({"w": p}, weight_decay=0.5)
    p.grad = torch.ones(6, 6)
    optimizer.step(0.1, {"w": [corner(full, full)]})  # now every entry has momentum
    before, moment = p.detach().clone(), optimizer.mean["w"].clone()
    p.grad = torch.ones(6, 6)
    optimizer.step(0.1, {"w": [wide, tall]})
    assert torch.equal(p[2:, 2:], before[2:, 2:])
    assert torch.equal(optimizer.mean["w"][2:, 2:], moment[2:, 2:])
    assert (p != before).sum() == covered.sum()


def test_a_step_moves_only_what_its_subnets_use():
    supernet = Supernet(SPACE)
    trainer = Trainer(supernet, TASK, Recipe(steps=4, batch_size=16, sampling="uniform"), None)
    trainer.advance()
    trainer.advance()
    before, trainer_step = weights(supernet), trainer.step
    trainer.advance()
    (one,) = sampling("uniform")(SPACE, np.random.default_rng([0, trainer_step, 0]), 2)
    corners = supernet.corners(one.architecture)
    for n, p in supernet.store.named_parameters():
        moved = (p.detach() != before[n]).clone()
        if n in corners:
            corners[n].write(torch.zeros(corners[n].shape, dtype=torch.bool), moved)
        assert not moved.any(), n


# Resumption


class Killed(Exception):
    pass


@pytest.mark.parametrize("knobs", [{}, {"ema": 0.9, "sampling": "uniform"}, {"distill": "alpha"}])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, knobs):
    recipe = Recipe(steps=12, batch_size=32, checkpoint_every=5, **knobs)
    undisturbed = Supernet(MLP)
    expected = train(undisturbed, TASK, recipe)

    def kill(step, *_):
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(Supernet(MLP), TASK, recipe, run=tmp_path, progress=kill)
    resumed = Supernet(MLP, seed=99)  # its start does not matter: the checkpoint holds all
    history = train(resumed, TASK, recipe, run=tmp_path)
    assert same(weights(undisturbed), weights(resumed))
    assert history == expected
    again = Supernet(MLP, seed=98)
    train(again, TASK, recipe, run=tmp_path)  # a finished training is loaded, not repeated
    assert same(weights(undisturbed), weights(again))


def test_another_training_in_the_folder_is_refused(tmp_path):
    train(Supernet(MLP), TASK, steps=2, batch_size=8, run=tmp_path)
    with pytest.raises(UserError, match="another recipe, space or task"):
        train(Supernet(MLP), TASK, steps=3, batch_size=8, run=tmp_path)


def test_a_checkpoint_without_its_json_does_not_count(tmp_path):
    save_checkpoint(tmp_path, 5, {"w": torch.ones(2)}, {"step": 5})
    (tmp_path / "step-000009.safetensors").write_bytes(b"half")
    (path,) = checkpoints(tmp_path)
    tensors, state = load_checkpoint(path)
    assert state == {"step": 5}
    assert tensors["w"].tolist() == [1, 1]


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "step-000009.safetensors").write_bytes(b"half")
    (tmp_path / "step-000009.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="step-000009"):
        load_checkpoint(tmp_path / "step-000009.json")


def test_unknown_knobs_are_named():
    with pytest.raises(UserError, match="unknown training knob 'stepps'; valid: steps"):
        train(Supernet(MLP), TASK, stepps=3)
    with pytest.raises(UserError, match="no largest net in the step"):
        train(Supernet(MLP), TASK, sampling="uniform", distill="kl")


# Divergence


def test_alarm():
    alarm = Alarm(patience=3)
    assert not any(alarm.rings(x) for x in (2.0, 1.9, 1.8, 2.5))
    assert alarm.rings(float("nan"))
    assert alarm.rings(50.0)
    assert not alarm.rings(1.7)


def test_a_diverged_step_is_rolled_back_and_said():
    trainer = Trainer(Supernet(MLP), TASK, Recipe(steps=10, batch_size=32, checkpoint_every=4), None)
    for _ in range(5):
        trainer.advance()
    kept = {n: t.clone() for n, t in trainer.good[0].items()}
    with torch.no_grad():
        trainer.parameters["head.weight"].fill_(float("nan"))
    trainer.advance()
    assert trainer.step == 4
    assert trainer.lr_scale == 0.5
    assert "diverged; back to step 4" in trainer.history.events[0]
    assert all(torch.equal(t, kept[n]) for n, t in trainer._state()[0].items())
    trainer.advance()
    assert trainer.step == 5


def test_a_hopeless_training_ends_with_advice():
    with pytest.raises(UserError, match="lower lr"):
        train(Supernet(MLP), TASK, steps=40, batch_size=32, lr=1e30, warmup=0, sampling="uniform")


def test_a_training_whose_last_step_is_not_finite_does_not_end_well(tmp_path, monkeypatch):
    def step(optimizer, *_):
        next(iter(optimizer.parameters.values())).data.fill_(torch.inf)

    monkeypatch.setattr(CornerAdamW, "step", step)
    with pytest.raises(UserError, match=r"keeps diverging .*the weights are not finite.*lower lr"):
        train(Supernet(MLP), TASK, steps=1, batch_size=32, sampling="uniform", run=tmp_path)
    assert not list(tmp_path.rglob("step-*"))


def test_a_training_locks_its_run(tmp_path):
    held = []

    def look(*_):
        held.append((tmp_path / ".lock").exists())

    train(Supernet(MLP), TASK, steps=1, batch_size=32, run=tmp_path, progress=look)
    assert held == [True]
    assert not (tmp_path / ".lock").exists()


# Distillation


def test_kl_is_zero_at_the_teacher_and_known_elsewhere():
    teacher = torch.tensor([[0.0, 1.0]])
    assert kl(teacher, teacher).item() == pytest.approx(0, abs=1e-7)
    p, q = torch.softmax(teacher, -1), torch.tensor([[0.5, 0.5]])
    assert kl(torch.zeros(1, 2), teacher).item() == pytest.approx((p * (p / q).log()).sum().item())


@pytest.mark.parametrize("a", [-1.0, 0.5, 2.0])
def test_the_surrogate_has_the_gradient_of_the_alpha_divergence(a):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    p, q = teacher.softmax(-1), student.softmax(-1)
    exact = ((q * ((p / q) ** a - 1)).sum(-1) / (a * (a - 1))).mean()
    (expected,) = torch.autograd.grad(exact, student)
    (found,) = torch.autograd.grad(alpha(student, teacher, low=a, high=a, clip=1e9).mean(), student)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def alpha_divergence(student, teacher, a):
    """As it is written in the paper, without clipping; for each sample."""
    p, q = teacher.softmax(-1), student.softmax(-1)
    if a == 1:
        return (p * (p / q).log()).sum(-1)
    return ((q * ((p / q) ** a - 1)).sum(-1) / (a * (a - 1))).detach()


@pytest.mark.parametrize(("student", "teacher", "larger"), [((0, 0), (3, 0), -1), ((3, 0), (0, 0), 1)])
def test_adaptive_alpha_takes_the_larger_divergence(student, teacher, larger):
    student = torch.tensor([student], dtype=torch.float32, requires_grad=True)
    teacher = torch.tensor([teacher], dtype=torch.float32)
    divergences = {a: alpha_divergence(student, teacher, a).item() for a in (-1, 1)}
    assert max(divergences, key=divergences.get) == larger
    found, low, high = (
        torch.autograd.grad(alpha(student, teacher, low=a, high=b, clip=1e9).mean(), student)[0]
        for a, b in ((-1, 1), (-1, -1), (1, 1))
    )
    assert torch.equal(found, high if larger == 1 else low)
    assert not torch.equal(low, high)


def logits(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def wide(*shape):
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(
    ("outputs", "targets", "axis"),
    [
        (logits(4, 3), wide(4), 1),
        (logits(2, 5, 8, 8), wide(2, 8, 8), 1),  # dense maps
        (logits(2, 8, 5), wide(2, 8), 2),  # tokens
        (logits(2, 5, 7), wide(2, 7), 1),
        (logits(4, 1), wide(4), None),  # one output: no distribution
        (logits(4, 3), wide(4, 3), None),  # several labels each
        (logits(4, 3), logits(4, 3), None),  # real values
        (logits(4, 1), logits(4, 1), None),
        (logits(4), logits(4), None),
    ],
    ids=lambda x: str(tuple(x.shape)) if torch.is_tensor(x) else str(x),
)
def test_what_is_distilled_follows_the_kind_of_output(outputs, targets, axis):
    loss = nn.functional.mse_loss if targets.is_floating_point() else nn.functional.cross_entropy
    assert class_axis(outputs, targets, loss) == axis
    task = Task.of((outputs, targets), (outputs, targets), loss=loss)
    student = outputs + logits(*outputs.shape).flip(0)
    found = distilled("kl", student, outputs, targets, task)
    if axis is None:
        assert found == pytest.approx(float(((student - outputs) ** 2).mean()))
        assert float(distilled("kl", outputs + 100, outputs, targets, task)) == pytest.approx(1e4)  # shifts are seen
    else:
        p, q = outputs.softmax(axis), student.softmax(axis)
        assert found == pytest.approx(float((p * (p / q).log()).sum(axis).mean()), rel=1e-4)


def test_probabilities_as_targets_are_classes():
    outputs, targets = logits(4, 3), logits(4, 3).softmax(-1)
    assert class_axis(outputs, targets, TASK.loss) == 1


@pytest.mark.parametrize("distill", ["kl", "alpha"])
def test_a_task_of_real_values_takes_a_plain_loss(distill):
    x = logits(200, 8)
    split = Split(x, x[:, :1] * x[:, 1:2] + x[:, 2:3])
    facts = {"name": "values", "labels": ("y",), "space": "", "source": "", "preprocessing": ""}
    mse = nn.functional.mse_loss
    task = Task(train=split, validation=split, test=split, loss=mse, metric=mse, **facts)

    def function(trial):
        width = trial.suggest_int("width", 8, 16, step=8)
        return nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 1))

    supernet = Supernet(SearchSpace(function))
    history = train(supernet, task, steps=60, lr=2e-2, distill=distill)
    assert history.rows[-1]["loss"] < 0.7 * history.rows[0]["loss"]
    with pytest.raises(UserError, match="takes no label_smoothing; leave it at 0"):
        train(supernet, task, steps=2, label_smoothing=0.1)


def tau_b(x, y):
    """Kendall's, from the signs of all differences (ties counted as in his tau-b)."""
    x, y = np.array(x), np.array(y)
    return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())


def test_health_reports_correlation_and_agreement():
    supernet = Supernet(MLP)
    train(supernet, TASK, steps=80, batch_size=64, lr=1e-2)
    health = check_health(supernet, TASK, nets=4, steps=40)
    assert len(health.table) == 4
    table = health.table
    pairs = [(i, j) for i in range(4) for j in range(i)]
    signs = [[np.sign(table[c][i] - table[c][j]) for i, j in pairs] for c in ("inherited", "alone", "params")]
    assert health.tau == pytest.approx(tau_b(signs[0], signs[1]))
    assert health.tau_params == pytest.approx(tau_b(signs[2], signs[1]))
    assert [evaluate_subnet(supernet, TASK, a) for a in spread(supernet, 4, 0)] == list(table["inherited"])
    assert health.table.loc[health.table["params"].idxmax(), "agreement"] == 1.0


class Normed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inp, self.norm, self.head = nn.Linear(64, width), nn.BatchNorm1d(width), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.norm(self.inp(x.flatten(1))).relu())


def test_running_statistics_are_measured_for_every_extracted_net():
    space = SearchSpace(lambda trial: Normed(trial.suggest_categorical("width", [8, 16])))
    supernet = Supernet(space)
    train(supernet, TASK, steps=40, batch_size=64, lr=1e-2)
    for architecture in space.enumerate():
        net = supernet.extract(architecture, TASK)
        x = torch.cat([TASK.batch(i, 256, 0, augment=False)[0] for i in range(8)])
        hidden = net.inp(x.flatten(1))
        torch.testing.assert_close(net.norm.running_mean, hidden.mean(0), atol=1e-4, rtol=1e-3)
        assert not net.norm.training
        assert evaluate_subnet(supernet, TASK, architecture) > 0.5
