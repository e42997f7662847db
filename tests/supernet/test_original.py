"""Training that learns from the original: a teacher that never moves, stated nets, minutes, and what is not trained."""

from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.errors import UserError
from nas.supernet.group import Group
from nas.supernet.length import Length
from nas.supernet.recipe import ADOPTED, Recipe, adopted_recipe, check_length, make_recipe
from nas.supernet.train import train
from nas.supernet.trainer import Trainer

TOKENS, WIDTH = 12, 8


class Net(nn.Module):
    """A language model without a memory, whose head is its table."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.wide, self.drop, self.narrow = nn.Linear(WIDTH, hidden), nn.Dropout(0.5), nn.Linear(hidden, WIDTH)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x)
        return self.head(x + self.narrow(self.drop(self.wide(x).tanh())))


def space() -> nas.SearchSpace:
    return nas.SearchSpace(lambda trial: Net(trial.suggest_categorical("hidden", [4, 8, 16, 32])))


SPACE = space()
ROWS = torch.randint(0, TOKENS, (96, 6), generator=torch.Generator().manual_seed(0))
TASK = nas.Task.of((ROWS[:64, :-1], ROWS[:64, 1:]), (ROWS[64:, :-1], ROWS[64:, 1:]), loss=nn.functional.cross_entropy)
KNOBS = {"teacher": "original", "sampling": "uniform", "distill_weight": 1.0, "batch_size": 16}


def original() -> nas.Supernet:
    """A trained model, adopted."""
    torch.manual_seed(3)
    return nas.adopt(Net(32).eval(), SPACE)


def weights(supernet: nas.Supernet) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in supernet.store.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_teacher_never_moves_and_the_nets_come_nearer_to_it() -> None:
    supernet, x = original(), ROWS[64:, :-1]
    expected = supernet(x, SPACE.largest).detach()
    trainer = Trainer(supernet, TASK, Recipe(**KNOBS, steps=60, lr=1e-2, nets=({"hidden": 8},)), None)
    first = trainer.advance()["loss"]
    while not trainer.finished:
        last = trainer.advance()["loss"]
    assert torch.equal(trainer.teacher.prediction(x), expected)
    assert all(p.grad is None and not p.requires_grad for p in trainer.teacher.net.parameters())
    assert last < 0.5 * first
    assert not torch.equal(supernet(x, SPACE.largest), expected)


def test_a_net_that_is_the_original_has_nothing_to_learn() -> None:
    """Dropout is off, or it would learn to be another."""
    trainer = Trainer(original(), TASK, Recipe(**KNOBS, nets=(dict(SPACE.largest),)), None)
    assert trainer.advance()["loss"] == pytest.approx(0, abs=1e-6)


def test_only_stated_nets_are_drawn() -> None:
    trainer = Trainer(original(), TASK, Recipe(nets=({"hidden": 16}, {"hidden": 8})), None)
    passes = [trainer._passes(np.random.default_rng(i)) for i in range(20)]
    assert {one.architecture["hidden"] for (one,) in passes} == {8, 16}


def test_layers_are_trained_without_embeddings_and_heads_tied_to_them() -> None:
    supernet = original()
    before = weights(supernet)
    train(supernet, TASK, Recipe(**KNOBS, steps=3, trains="layers"), check=False)
    moved = {name for name, p in weights(supernet).items() if not torch.equal(p, before[name])}
    assert moved == {"wide.weight", "wide.bias", "narrow.weight", "narrow.bias"}
    assert all(p.requires_grad for p in supernet.parameters())


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_with_the_same_original(tmp_path) -> None:
    recipe = Recipe(**KNOBS, steps=12, checkpoint_every=5, trains="layers")
    undisturbed = original()
    expected = train(undisturbed, TASK, recipe, check=False)

    def kill(step: int, *_: object) -> None:
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(original(), TASK, recipe, run=tmp_path, progress=kill, check=False)
    with pytest.raises(UserError, match="from another start"):
        train(nas.Supernet(SPACE, seed=5), TASK, recipe, run=tmp_path, check=False)
    resumed = original()
    assert train(resumed, TASK, recipe, run=tmp_path, check=False) == expected
    assert same(weights(resumed), weights(undisturbed))


# Minutes


def ticking(length: Length, seconds: float) -> Length:
    """Its clock goes on by so many seconds each time that it is looked at."""
    times = count(0.0, seconds)
    length.clock = lambda: next(times)
    length._last = length.clock()
    return length


def test_minutes_end_a_training_and_set_its_rate() -> None:
    recipe = Recipe(minutes=1, warmup=0.1, lr=1.0)
    length, done, rates, kept = ticking(Length(recipe, Group()), 0.5), 0, [], []
    while done < length.steps(done):
        rates.append(recipe.learning_rate(done, length.steps(done)))
        done += 1
        length.tick()
        kept.append(length.keeps(done))
    assert done == 120
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert rates.index(max(rates)) == pytest.approx(12, abs=1)
    assert rates[-1] < 1e-3
    assert [step for step, is_kept in enumerate(kept, 1) if is_kept] == [*range(12, 97, 12), 100, 112, 120]


def test_a_training_that_goes_on_has_the_minutes_that_are_left(tmp_path) -> None:
    recipe = Recipe(**KNOBS, minutes=1, checkpoint_every=5)

    def trainer() -> Trainer:
        made = Trainer(original(), TASK, recipe, tmp_path)
        ticking(made.length, 4.0)
        made.resume()
        return made

    begun = trainer()
    while begun.step < 10:
        begun.advance()
    going_on = trainer()
    assert (going_on.step, going_on.length.seconds) == (10, 40)
    while not going_on.finished:
        going_on.advance()
    assert going_on.step == 15


def test_steps_and_minutes_are_alternatives() -> None:
    with pytest.raises(UserError, match="state one of them"):
        check_length({"steps": 3, "minutes": 2})
    timed = make_recipe(None, {"minutes": 2})
    assert make_recipe(timed, {"steps": 3}).minutes is None
    assert make_recipe(timed, {"lr": 1e-3}).minutes == 2
    with pytest.raises(UserError, match="minutes: input should be greater than 0"):
        make_recipe(None, {"minutes": 0})


def test_older_trainings_are_known_by_what_they_were() -> None:
    assert not {"minutes", "nets", "teacher", "trains", "qat"} & Recipe().identity().keys()
    assert {"minutes", "teacher"} <= Recipe(minutes=2, teacher="original").identity().keys()


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"teacher": "original", "distill": "none"}, "learns from no teacher"),
        ({"sampling": "uniform", "distill": "kl"}, "teacher='original' or distill='none'"),
    ],
)
def test_knobs_that_do_not_fit_together(knobs, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_recipe(None, knobs)


def test_an_adopted_model_is_trained_for_stated_nets() -> None:
    nets = ({"ffn": 1},)
    recipe = adopted_recipe(None, {"nets": nets, "steps": 5, "lr": 1e-3})
    assert (recipe.distill, recipe.steps, recipe.lr, recipe.trains) == ("none", 5, 1e-3, ADOPTED["trains"])
    assert adopted_recipe(recipe, {"minutes": 2}).minutes == 2
    for knobs in ({"distill": "kl"}, {"teacher": "original"}):
        learning = adopted_recipe(None, {"nets": nets, **knobs})
        assert (learning.distill, learning.teacher, learning.refit) == ("kl", "original", ADOPTED["refit"])
    with pytest.raises(UserError, match=r"state which are trained: nets=\[architecture"):
        adopted_recipe(None, {"steps": 5})


def test_nets_must_be_of_the_space() -> None:
    with pytest.raises(UserError, match="hidden"):
        Trainer(original(), TASK, Recipe(nets=({"hidden": 5},)), None)
