"""Tasks from users' own data: every form of batch, output, loss and metric, through training and evaluation."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler
from torchmetrics import MeanSquaredError, R2Score
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

import nas
from nas.errors import UserError
from nas.search_space.terms import add_loss, collected_terms
from nas.supernet.evaluate import evaluate
from nas.tasks.data import Rows, Split, Stream

ROWS, FEATURES = 96, 4
DRAW = torch.Generator().manual_seed(0)
X, Y = torch.randn(ROWS, FEATURES, generator=DRAW), torch.randn(ROWS, FEATURES, generator=DRAW)
TARGET = (X * Y).sum(1, keepdim=True)


@dataclass
class Output:
    prediction: Tensor
    hidden: Tensor


class TwoInputs(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2 * FEATURES, width), nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor) -> Output:
        hidden = torch.relu(self.first(torch.cat([x, y], 1)))
        return Output(self.last(hidden), hidden)


def two_inputs(trial):
    return TwoInputs(trial.suggest_int("width", 8, 24, step=8))


def mlp(trial):
    width = trial.suggest_int("width", 8, 24, step=8)
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, 1))


def rows(start: int = 0, stop: int = ROWS):
    return [{"x": X[i], "y": Y[i], "target": TARGET[i]} for i in range(start, stop)]


def squared(prediction: Tensor, target: Tensor) -> float:
    return float(((prediction - target) ** 2).mean())


def of_rows(**changes):
    asked = {"inputs": ("x", "y"), "target": "target", "output": "prediction", "loss": nn.MSELoss()}
    splits = {"train": rows(), "validation": rows(0, 40), "test": None}
    return nas.Task.of(**{**splits, **asked, "metric": ("mse", squared), "better": "min", **changes})


def trained(space, task, **knobs):
    supernet = nas.Supernet(space)
    history = nas.train(supernet, task, **{"steps": 60, "lr": 2e-2, **knobs})
    losses = [row["loss"] for row in history.rows]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    return supernet


def test_rows_that_are_mappings_with_several_inputs_and_a_dataclass_of_outputs():
    task = of_rows()
    space = nas.SearchSpace(two_inputs)
    supernet = trained(space, task)
    quality = nas.evaluate_subnet(supernet, task, space.smallest)
    net = supernet.extract(space.smallest, task)
    with torch.no_grad():
        expected = squared(net(X[:40], Y[:40]).prediction, TARGET[:40])
    assert quality == evaluate(net, task) == pytest.approx(expected, rel=1e-6)
    assert (task.metric.name, task.metric.better, task.metric.text(0.25)) == ("mse", "min", "0.25")
    assert task.test is None
    with pytest.raises(UserError, match="has no test split"):
        evaluate(net, task, "test")


@pytest.mark.parametrize(
    ("train", "inputs", "target"),
    [
        ([(X[i], Y[i], TARGET[i]) for i in range(ROWS)], (0, 1), 2),
        ([(X[i], Y[i], TARGET[i]) for i in range(ROWS)], None, None),
        ((X, Y, TARGET), None, None),
        ((X.numpy(), Y.numpy(), TARGET.numpy()), None, None),
        ({"x": X, "y": Y, "target": TARGET}, None, None),
        ({"a": X, "b": Y, "out": TARGET}, {"x": "a", "y": "b"}, "out"),
        ({"a": X, "b": Y, "out": TARGET}, lambda b: (b["a"], b["b"]), "out"),
        (TensorDataset(X, Y, TARGET), None, None),
        (DataLoader(TensorDataset(X, Y, TARGET), batch_size=16, shuffle=True), None, None),
    ],
)
def test_every_form_of_data_gives_the_same_batches(train, inputs, target):
    task = of_rows(train=train, validation=train, inputs=inputs, target=target)
    reference = of_rows(validation=rows())
    for step in (0, 7):
        got, expected = task.batch(step, 16, 3), reference.batch(step, 16, 3)
        assert [t.tolist() for t in _tensors(got)] == [t.tolist() for t in _tensors(expected)]
    space = nas.SearchSpace(two_inputs)
    supernet = nas.Supernet(space)
    values = [nas.evaluate_subnet(supernet, t, space.largest) for t in (task, reference)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def _tensors(batch):
    inputs, targets = batch
    return [*(inputs.values() if isinstance(inputs, dict) else inputs), targets]


def test_a_loader_brings_its_batch_size_and_a_small_split_lowers_it():
    data = TensorDataset(X, TARGET)
    assert nas.Task.of(DataLoader(data, batch_size=16), data, metric="mse").batch_size_for(None) == 16
    assert nas.Task.of(TensorDataset(X[:10], TARGET[:10]), data, metric="mse").batch_size_for(None) == 10
    with pytest.raises(UserError, match="batch size 500 must be between 1 and the 96 training samples"):
        nas.Task.of(data, data, metric="mse").batch_size_for(500)


class Numbers(IterableDataset):
    """96 samples that can only be walked over."""

    def __iter__(self):
        return iter(zip(X, TARGET, strict=True))


@pytest.mark.parametrize(
    "train",
    [
        Numbers(),
        DataLoader(Numbers(), batch_size=16),
        DataLoader(TensorDataset(X, TARGET), batch_size=16, sampler=WeightedRandomSampler([1.0] * ROWS, ROWS)),
    ],
    ids=["iterable", "loader", "sampler"],
)
def test_a_stream_gives_a_resumed_training_the_batches_of_an_undisturbed_one(train):
    def task():
        return nas.Task.of(train, (X, TARGET), metric="mse")

    one, other = task(), task()
    assert isinstance(one.train, Stream)
    walked = [one.batch(step, 16, seed=5)[0] for step in range(14)]  # more than two epochs
    torch.manual_seed(1)
    for step in (13, 3, 3, 4, 0):
        assert torch.equal(other.batch(step, 16, seed=5)[0], walked[step])
    space = nas.SearchSpace(mlp)
    trained(space, task(), steps=150, batch_size=16)


def test_a_dataset_with_randomness_of_its_own_resumes():
    class Noisy(Dataset):
        def __len__(self):
            return ROWS

        def __getitem__(self, i):
            return X[i] + 0.1 * torch.randn(FEATURES), TARGET[i]

    task = nas.Task.of(Noisy(), (X, TARGET), metric="mse")
    assert isinstance(task.train, Rows)
    first = task.batch(3, 8, 0)[0]
    torch.manual_seed(7)
    assert torch.equal(task.batch(3, 8, 0)[0], first)


def test_augmentation_by_any_library_is_no_other_task(tmp_path):
    """A training whose dataset draws at random goes on; another validation split is another task."""

    class Drawn(Dataset):
        def __len__(self):
            return ROWS

        def __getitem__(self, i):
            return X[i] + np.random.default_rng().normal(), TARGET[i]

    def task(validation):
        return nas.Task.of(Drawn(), validation, metric="mse")

    assert task((X, TARGET)).digest == task((X, TARGET)).digest != task((-X, TARGET)).digest
    space = nas.SearchSpace(mlp)
    for steps in (4, 4):
        history = nas.train(nas.Supernet(space), task((X, TARGET)), steps=steps, checkpoint_every=2, run=tmp_path)
    assert len(history.rows) == 4


def test_a_part_of_a_stream_is_counted_in_its_own_batches():
    loader = DataLoader(TensorDataset(X, TARGET), batch_size=16, sampler=WeightedRandomSampler([1.0] * ROWS, ROWS))
    part = nas.Task.of(loader, loader, metric="mse").subset(validation=32).validation
    assert [len(targets) for _, targets in part.batches(256)] == [16, 16]


def test_data_on_disk_are_read_batch_by_batch(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X.numpy())
    mapped = np.load(path, mmap_mode="r")
    reads = []

    class Mapped(Dataset):
        def __len__(self):
            return ROWS

        def __getitem__(self, i):
            reads.append(i)
            return torch.from_numpy(mapped[i].copy()), TARGET[i]

    task = nas.Task.of(Mapped(), Mapped(), metric="mse")
    reads.clear()
    task.batch(0, 8, 0)
    assert len(reads) == 8


def test_tokens_with_ignored_targets_take_torchs_loss():
    """(N, T, K) logits beside (N, T) targets, some of which are padding."""
    tokens = torch.randint(12, (64, 6), generator=DRAW)
    targets = tokens % 3
    targets[:, -1] = -100

    def tagger(trial):
        width = trial.suggest_int("width", 8, 16, step=8)
        return nn.Sequential(nn.Embedding(12, width), nn.Linear(width, 3))

    task = nas.Task.of((tokens, targets), (tokens, targets), loss=nn.CrossEntropyLoss(), metric="accuracy")
    supernet = trained(nas.SearchSpace(tagger), task, steps=80)
    space = supernet.space
    assert nas.evaluate_subnet(supernet, task, space.largest) == 1.0
    logits = supernet.extract(space.largest, task)(tokens)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets)
    assert float(task.loss_of(logits, targets)) == pytest.approx(float(expected), rel=1e-6)
    assert task.example.dtype == torch.int64
    assert task.class_axis(logits, targets) == 2


def test_dense_maps_with_torchmetrics():
    images = torch.randn(48, 3, 8, 8, generator=DRAW)
    maps = (images[:, 0] > 0).long()

    def dense(trial):
        width = trial.suggest_int("width", 4, 12, step=4)
        return nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 1)
        )

    task = nas.Task.of((images, maps), (images, maps), loss=nn.CrossEntropyLoss(), metric=MulticlassJaccardIndex(2))
    assert (task.metric.better, task.metric.name) == ("max", "MulticlassJaccardIndex")
    supernet = trained(nas.SearchSpace(dense), task, batch_size=16)
    quality = nas.evaluate_subnet(supernet, task, supernet.space.largest)
    assert quality > 0.8
    assert quality == nas.evaluate_subnet(supernet, task, supernet.space.largest)  # nothing is left from before


def test_a_function_sees_all_predictions_and_a_torchmetrics_object_one_batch_at_a_time():
    seen: list[int] = []

    def root(prediction, target):
        seen.append(len(prediction))
        return ((prediction - target) ** 2).mean() ** 0.5

    class Counted(MeanSquaredError):
        def update(self, preds, target):
            seen.append(len(preds))
            super().update(preds, target)

    space = nas.SearchSpace(mlp)
    supernet = nas.Supernet(space)

    def quality(metric):
        seen.clear()
        task = replace(nas.Task.of((X, TARGET), (X, TARGET), metric=metric), evaluation_batch=10)
        return nas.evaluate_subnet(supernet, task, space.largest)

    rmse = quality(("rmse", root))
    assert seen == [ROWS]
    assert quality(Counted(squared=False)) == pytest.approx(rmse, rel=1e-5)
    assert seen == [10] * 9 + [6]
    assert quality(R2Score()) == pytest.approx(1 - rmse**2 / float(TARGET.var(unbiased=False)), rel=1e-4)
    assert quality("mse") == pytest.approx(rmse**2, rel=1e-5)
    assert quality(None) == pytest.approx(rmse**2, rel=1e-5)  # the loss


def test_targets_without_a_dimension_are_not_broadcast():
    flat = nas.Task.of((X, TARGET[:, 0]), (X, TARGET[:, 0]), metric="mse")
    column = nas.Task.of((X, TARGET), (X, TARGET), metric="mse")
    supernet = nas.Supernet(nas.SearchSpace(mlp))
    one, other = (nas.evaluate_subnet(supernet, t, supernet.space.largest) for t in (flat, column))
    assert one == other
    trained(supernet.space, flat, steps=20)


def test_terms_that_a_net_leaves_are_weighed_by_name():
    class Leaving(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body = nn.Linear(FEATURES, width)
            self.head = nn.Linear(width, 1)

        def forward(self, x):
            hidden = self.body(x)
            add_loss("balance", hidden.square().mean())
            return self.head(hidden)

    space = nas.SearchSpace(lambda trial: Leaving(trial.suggest_int("width", 8, 16, step=8)))
    losses = {}
    for weight in (0.0, 100.0):
        supernet = nas.Supernet(space)
        task = nas.Task.of((X, TARGET), (X, TARGET), metric="mse", terms={"balance": weight})
        nas.train(supernet, task, steps=40, lr=1e-2)
        losses[weight] = float(supernet.extract(space.largest).body(X).square().mean())
    assert losses[100.0] < 0.4 * losses[0.0]
    net = supernet.extract(space.largest)
    net(X)  # outside of a training a term is nothing
    with collected_terms() as terms:
        net(X)
    assert {name: float(term) for name, term in terms.items()} == {"balance": float(net.body(X).square().mean())}


def test_parts_of_mappings_and_tuples_are_the_prediction():
    class Heads(nn.Module):
        def __init__(self, width, kind):
            super().__init__()
            self.body, self.a, self.b = nn.Linear(FEATURES, width), nn.Linear(width, 1), nn.Linear(width, 7)
            self.kind = kind

        def forward(self, x):
            hidden = self.body(x)
            parts = {"a": self.a(hidden), "b": self.b(hidden)}
            return parts if self.kind == "mapping" else tuple(parts.values())

    for kind, output in (("mapping", "a"), ("tuple", 0), ("mapping", lambda outputs: outputs["a"])):
        space = nas.SearchSpace(lambda trial, kind=kind: Heads(trial.suggest_int("width", 8, 16, step=8), kind))
        task = nas.Task.of((X, TARGET), (X, TARGET), output=output, metric="mse")
        trained(space, task, steps=20)
        with pytest.raises(UserError, match="say in the task which part is its prediction: output="):
            nas.train(nas.Supernet(space), nas.Task.of((X, TARGET), (X, TARGET), metric="mse"), steps=1)
    with pytest.raises(UserError, match="output='c' names no part of what the net returns; it returns dict of a, b"):
        nas.Task.of((X, TARGET), (X, TARGET), output="c").prediction({"a": X, "b": X})


def test_a_distillation_of_the_users_own():
    called = []

    def distil(student, teacher, _):
        called.append(teacher.requires_grad)
        return (student - teacher).abs().mean()

    space = nas.SearchSpace(mlp)
    trained(space, nas.Task.of((X, TARGET), (X, TARGET), metric="mse", distillation=distil), steps=12)
    assert called
    assert not any(called)


def test_float64_targets_and_integer_accuracy():
    targets = (X[:, 0] > 0).long()
    space = nas.SearchSpace(
        lambda trial: nn.Sequential(nn.Linear(FEATURES, w := trial.suggest_int("w", 8, 16, step=8)), nn.Linear(w, 2))
    )
    task = nas.Task.of((X.double(), targets), (X.double(), targets), metric=MulticlassAccuracy(2, average="micro"))
    supernet = trained(space, task)
    same = nas.Task.of((X, targets), (X, targets), metric="accuracy")
    values = [nas.evaluate_subnet(supernet, t, space.largest) for t in (task, same)]
    assert values[0] == pytest.approx(values[1])
    nas.train(nas.Supernet(nas.SearchSpace(mlp)), nas.Task.of((X, TARGET.double()), (X, TARGET), metric="mse"), steps=2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": 3}, "train must be a DataLoader, a dataset, a list of rows, or tensors"),
        ({"train": []}, "train must be a DataLoader, a dataset"),
        ({"train": {"x": X, "target": TARGET[:5]}, "inputs": "x"}, "must have one first dimension, the samples"),
        ({"target": "nothing"}, "unknown part of a batch 'nothing'; valid: target, x, y"),
        ({"train": {"x": X, "out": TARGET}, "inputs": None, "target": None}, "say which part is the target"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; valid: accuracy"),
        ({"metric": 3}, "metric must be a name, a function or a torchmetrics object, got int"),
        ({"better": "big"}, "better must be 'max' or 'min', got 'big'"),
    ],
)
def test_what_is_no_task_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        of_rows(**changes)


def test_inputs_that_a_net_does_not_take_are_named_before_the_first_step():
    space = nas.SearchSpace(two_inputs)
    task = of_rows(inputs=None, train={"x": X, "image": Y, "target": TARGET})
    with pytest.raises(UserError, match=r"gives the net x, image, which its forward\(x: .* does not take .* inputs="):
        nas.train(nas.Supernet(space), task, steps=1)
    with pytest.raises(UserError, match=r"task must be a nas\.Task, got DataLoader; make one: nas\.Task\.of"):
        nas.train(nas.Supernet(space), DataLoader(TensorDataset(X, TARGET)), steps=1)


def test_a_loss_or_metric_that_is_no_number_is_refused():
    space = nas.SearchSpace(mlp)
    task = nas.Task.of((X, TARGET), (X, TARGET), loss=nn.MSELoss(reduction="none"), metric="mse")
    with pytest.raises(UserError, match="the loss of task 'task' must return a tensor of one number, got"):
        nas.train(nas.Supernet(space), task, steps=1)
    task = nas.Task.of((X, TARGET), (X, TARGET), metric=("pairs", lambda p, t: (p, t)))
    with pytest.raises(UserError, match="the metric '<lambda>' must return a number, got tuple"):
        nas.evaluate_subnet(nas.Supernet(space), task, space.largest)


def test_the_digest_tells_data_apart():
    task = of_rows()
    assert task.digest == of_rows().digest
    assert task.digest != of_rows(validation=rows(10, 50)).digest
    assert isinstance(nas.Task.of(Split(X, TARGET), Split(X, TARGET)).train, Split)
