"""Shared fixtures. Two threads at most: the suite runs on small machines."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in nas/threads.py

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a hub that cannot be reached is asked again and again

import pytest
import torch

torch.set_num_threads(min(2, torch.get_num_threads()))
sys.path.insert(0, str(Path(__file__).parent))  # for `example_spaces`


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What the suite trusts and trains stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
