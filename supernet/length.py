"""How long a training is: a number of steps, or minutes, which the steps that fit into them are estimated from."""

import math
import time
from collections.abc import Callable

from .group import Group
from .recipe import Recipe

KEPT = 0.1
"""Share of the minutes after which the state is kept at the latest: a step of a large model takes seconds."""
UNKNOWN = 1000
"""Steps that fit into the minutes, before the first has told how long it takes."""


class Length:
    """The time that the steps of a training took so far, in seconds; processes that train together take its mean.

    A training that goes on sets `seconds` to what it had spent, and has what is left.
    """

    def __init__(self, recipe: Recipe, group: Group, clock: Callable[[], float] = time.monotonic) -> None:
        self.recipe, self.group, self.clock = recipe, group, clock
        self.seconds, self._kept = 0.0, 0.0
        self._last = clock()

    def tick(self) -> None:
        """A step ends now."""
        now = self.clock()
        self.seconds += self.group.mean(now - self._last)
        self._last = now

    def steps(self, done: int) -> int:
        """In all, when so many are done."""
        if self.recipe.minutes is None:
            return self.recipe.steps
        budget = 60 * self.recipe.minutes
        if self.seconds >= budget:
            return done
        return max(done + 1, math.ceil(done * budget / self.seconds)) if done else UNKNOWN

    def keeps(self, done: int) -> bool:
        """Whether the state after so many steps is kept."""
        due = self.recipe.minutes is not None and self.seconds - self._kept >= KEPT * 60 * self.recipe.minutes
        if due or done % self.recipe.checkpoint_every == 0 or done >= self.steps(done):
            self._kept = self.seconds
            return True
        return False
