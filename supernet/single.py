"""One net trained by itself: the yardstick for weights that a supernet shares."""

from torch import nn

from ..search_space.architecture import Architecture
from ..search_space.space import SearchSpace
from ..search_space.trial import RecordingTrial
from ..tasks import Task
from .recipe import Recipe
from .store import Supernet
from .train import train


def only(space: SearchSpace, architecture: Architecture) -> SearchSpace:
    """The space whose single net is `architecture` of `space`."""

    def function(_: object) -> nn.Module:
        return space.function(RecordingTrial(lambda gene: architecture[gene.name]))

    return SearchSpace(function, layouts=space.layout_rules)


def train_alone(space: SearchSpace, architecture: Architecture, task: Task, recipe: Recipe) -> nn.Module:
    """A fresh net of `architecture` trained with `recipe`: the data order, optimizer and schedule of a supernet.

    >>> net = nas.train_alone(space, space.smallest, task, nas.Recipe(steps=2))
    """
    alone = Supernet(only(space, architecture), seed=recipe.seed)
    train(alone, task, recipe)
    return alone.extract(alone.space.largest, task)
