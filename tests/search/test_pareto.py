import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import hypervolume, knee, non_dominated, ranks

STAIRS = [(1, 3), (2, 2), (3, 1)]
points_2d = st.lists(st.tuples(*[st.integers(0, 8)] * 2), min_size=1, max_size=12)
points_3d = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=10)
either = st.one_of(points_2d, points_3d)


def brute_force(points: list) -> list[bool]:
    def beats(p: tuple, q: tuple) -> bool:
        return p != q and all(a <= b for a, b in zip(p, q, strict=True))

    return [not any(beats(p, q) for p in points) for q in points]


def cells(points: list, corner: int) -> int:
    """The hypervolume of integer points: unit cells below the corner that some point dominates."""
    grid = np.indices((corner,) * len(points[0])).reshape(len(points[0]), -1).T
    return int(np.any([(grid >= p).all(axis=1) for p in points], axis=0).sum())


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [
        (STAIRS, (4, 4), 6.0),  # 3 + 2 + 1 cells
        (STAIRS, (3, 3), 1.0),  # points on the border of the box add nothing
        (STAIRS, (1, 1), 0.0),
        ([(0, 0, 0)], (2, 3, 4), 24.0),
        ([(0, 0, 1), (0, 1, 0), (1, 0, 0)], (2, 2, 2), 7.0),  # all but the cell at the origin
        ([(3.0,), (1.5,)], (4.0,), 2.5),
        ([], (1, 1), 0.0),
    ],
)
def test_hypervolume_known_answers(points: list, reference: tuple, volume: float) -> None:
    assert hypervolume(points, reference) == pytest.approx(volume)


@given(either)
def test_hypervolume_counts_cells(points: list) -> None:
    assert hypervolume(points, [9] * len(points[0])) == pytest.approx(cells(points, 9))


@given(points_2d, st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_a_point_never_lowers_the_hypervolume_and_a_dominated_one_leaves_it(points: list, extra: tuple) -> None:
    before, after = hypervolume(points, (9, 9)), hypervolume([*points, extra], (9, 9))
    dominated = any(p[0] <= extra[0] and p[1] <= extra[1] for p in points)
    assert after == before if dominated else after > before


@given(either)
def test_non_dominated_is_the_definition(points: list) -> None:
    assert non_dominated(points).tolist() == brute_force(points)


@given(either)
def test_ranks_peel_front_after_front(points: list) -> None:
    level = ranks(points)
    for k in range(level.max() + 1):
        left = [p for p, rank in zip(points, level, strict=True) if rank >= k]
        assert [rank == k for rank in level if rank >= k] == brute_force(left)


def test_one_objective_has_a_front_too() -> None:
    assert non_dominated([[2.0], [1.0], [1.0]]).tolist() == [False, True, True]
    assert ranks([[2.0], [1.0], [1.0]]).tolist() == [1, 0, 0]


def test_knee_is_the_bend_whatever_the_units() -> None:
    curve = [(0, 10), (1, 4), (2, 2), (6, 1), (10, 0)]
    assert knee(curve) == 2
    assert knee([(a * 1e6, b * 1e-3) for a, b in curve]) == 2
    assert knee([(9, 9), *curve]) == 3  # a dominated point is no knee and moves no scale
    assert knee([(5.0, 5.0)]) == 0
    with pytest.raises(ValueError, match="no knee"):
        knee([])
