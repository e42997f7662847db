"""Shared fixtures. Two threads at most: the suite runs on small machines."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in nas/threads.py

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a hub that cannot be reached is asked again and again

import pytest
import torch

from nas.search_space import space as spaces
from nas.search_space.inputs import tensors_in
from nas.search_space.transformer import TransformerFunction

torch.set_num_threads(min(2, torch.get_num_threads()))
sys.path.insert(0, str(Path(__file__).parent))  # for `example_spaces`


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What the suite trusts and trains stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nesting_is_checked_once():
    """Each space of the general transformer is checked once in a session, however many trainings begin with it."""
    seen, check = {}, spaces.check

    def once(space, example=None, seed=0):
        if example is None or not isinstance(space.function, TransformerFunction) or space.layout_rules:
            return check(space, example, seed)
        function, shapes = space.function, [tuple(x.shape) for x in tensors_in(example)]
        key = (function.space.model_dump_json(), function.input_shape, function.classes, str(shapes), seed)
        if key not in seen:
            seen[key] = check(space, example, seed)
        return seen[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces, "check", once)
        yield
