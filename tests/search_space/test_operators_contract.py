"""The contract of every operator. A new file in a folder of operators is picked up by itself."""

from collections.abc import Callable
from typing import Any

import pytest

from nas.search_space.operators.base import GIVEN, Operator, operators
from nas.testing import operator_checks

ALL = operators()
SLOW = {"onnx_computes_the_same": pytest.mark.slow}
CHECKS = [
    pytest.param(check, id=f"{entry.kind}-{entry.name}-{name}", marks=SLOW.get(name, ()))
    for entry in ALL
    for name, check in operator_checks(entry.kind, entry.name).items()
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.filterwarnings("ignore")  # of torch's exporter
def test_operators_keep_the_contract(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("entry", ALL, ids=lambda e: f"{e.kind}-{e.name}")
def test_an_operator_lies_in_the_folder_of_its_kind(entry: Operator) -> None:
    assert entry.cls.__module__.rsplit(".", 2)[-2] == f"{entry.kind}s"


def test_a_gene_has_the_same_options_wherever_it_is_named() -> None:
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    for entry in ALL:
        for gene, options in entry.genes.items():
            assert gene not in GIVEN
            assert seen.setdefault((entry.kind, gene), options) == options, f"{entry.name}: {gene}"
