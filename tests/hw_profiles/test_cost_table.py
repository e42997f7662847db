"""Costs from tables, and that `count` alike kernels are `count` rows."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UserError
from nas.hw_profiles.cost import KINDS, Cost, OperatorCost
from nas.hw_profiles.cost.fusion import FUSIONS, fused

ROW: dict[str, Any] = {"kind": "matmul", "flops": 8, "bytes_read": 4.0, "bytes_written": 2.0}
numbers = st.integers(0, 10**12)
rows = st.builds(OperatorCost, st.just("x"), st.sampled_from(KINDS), numbers, numbers, numbers, st.integers(1, 50))


def expanded(table: list[OperatorCost]) -> list[OperatorCost]:
    return [OperatorCost(o.name, o.kind, o.flops, o.bytes_read, o.bytes_written) for o in table for _ in range(o.count)]


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, max_size=12))
def test_a_count_is_as_many_rows(table: list[OperatorCost]) -> None:
    short, long = Cost.from_operators(table), Cost.from_operators(expanded(table))
    assert short.total == long.total
    assert short.by_kind() == long.by_kind()
    assert sum(t.flops for t in short.by_kind().values()) == short.flops
    assert sum(t.kernels for t in short.by_kind().values()) == short.kernels == sum(o.count for o in table)


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, max_size=12), st.sampled_from(sorted(FUSIONS)))
def test_fusion_keeps_work_and_adds_nothing(table: list[OperatorCost], runtime: str) -> None:
    cost = Cost.from_operators(table)
    whole = fused(cost, runtime)
    # Tensors made from nothing are constants; what they "compute" goes with them.
    made = sum(o.flops * o.count for o in table if o.kind == "other" and o.bytes_read == 0)
    assert cost.flops - made <= whole.flops <= cost.flops
    assert whole.bytes <= cost.bytes
    assert whole.kernels <= cost.kernels


def test_columns_may_be_left_out_and_the_table_reads_back() -> None:
    cost = Cost.from_operators([ROW, ROW | {"name": "mm", "count": 3}], params=3, precision="fp16")
    assert [op.name for op in cost.operators] == ["matmul", "mm"]
    assert (cost.flops, cost.bytes, cost.kernels, cost.params, cost.weight_bytes) == (32, 24, 4, 3, 6)
    table = cost.table()
    assert list(table.columns) == [
        "name",
        "kind",
        "flops",
        "bytes_read",
        "bytes_written",
        "count",
        "length",
        "channels",
        "precision",
    ]
    assert Cost.from_operators(table).operators == cost.operators
    assert Cost.from_operators(pd.DataFrame([ROW])).flops == 8
    assert Cost.from_operators([]).table().shape == (0, 9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "matmull"}, "unknown operator kind 'matmull'; valid: matmul"),
        ({"flops": -1}, "flops of operator 1 must be a finite number from 0 on, not -1"),
        ({"bytes_read": float("nan")}, "bytes_read of operator 1 must be a finite number"),
        ({"bytes_written": float("inf")}, "bytes_written of operator 1 must be a finite number"),
        ({"flops": "many"}, "not 'many'"),
        ({"count": 0}, "count of operator 1 must be a whole number from 1 on, not 0"),
        ({"count": 1.5}, "not 1.5"),
        ({"counts": 2}, "unknown column of operator 1 'counts'; valid: count"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Cost.from_operators([ROW | change])


def test_missing_columns_are_named() -> None:
    with pytest.raises(UserError, match="operator 1 has no flops, bytes_read; a row needs kind"):
        Cost.from_operators(pd.DataFrame([{"kind": "matmul", "bytes_written": 2}]))
    with pytest.raises(UserError, match="must be a mapping"):
        Cost.from_operators([("matmul", 1, 2, 3)])  # type: ignore[list-item]


def test_costs_are_keys() -> None:
    first, second = Cost.from_operators([ROW]), Cost.from_operators([ROW])
    assert {first: 1}[second] == 1
    assert first != Cost.from_operators([ROW], params=1)
