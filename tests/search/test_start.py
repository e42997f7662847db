"""Searches that begin with given architectures."""

import pytest

import nas
from nas.errors import UserError
from nas.search.start import read_start, write_start

SPACE = nas.GeneSpace({f"layers.{i}.ffn": [0, 1, 2, 3] for i in range(4)})
START = [{f"layers.{i}.ffn": 3 - (i == left) for i in range(4)} for left in range(3)]


def search(storage=None, evaluations: int = 20, start=START, **options) -> nas.Study:
    loss = nas.minimize(lambda net: -sum(v * (i + 1) for i, v in enumerate(net.values())))
    size = nas.minimize(lambda net: sum(net.values()))
    objectives = {"loss": loss, "size": size}
    return nas.search(SPACE, objectives, evaluations=evaluations, start=start, storage=storage, **options)


def test_the_start_is_evaluated_first_and_once() -> None:
    study = search(start=[*START, START[0]])
    assert [dict(net) for net in study.architectures[:3]] == START
    assert len(set(study.architectures)) == len(study) == 20


def test_a_search_with_a_start_resumes_to_the_same_result(tmp_path) -> None:
    whole = search().architectures
    for evaluations in (2, 7, 20):
        study = search(tmp_path / "study.db", evaluations)
    assert study.architectures == whole
    assert search(start=()).architectures != whole
    with pytest.raises(UserError, match="with another algorithm"):
        search(tmp_path / "study.db", start=START[1:])


def test_a_start_of_another_space_is_refused() -> None:
    with pytest.raises(UserError, match=r"layers\.9\.ffn"):
        search(start=[{"layers.9.ffn": 1}])
    with pytest.raises(UserError, match="has no option 7"):
        search(start=[{"layers.0.ffn": 7}])


def test_the_start_of_a_run_is_kept_in_a_file(tmp_path) -> None:
    assert read_start(None) == read_start(tmp_path) == ()
    write_start(tmp_path, [SPACE.architecture(net) for net in START])
    assert list(read_start(tmp_path)) == START
    (tmp_path / "start.json").write_text("{")
    with pytest.raises(UserError, match=r"start\.json"):
        read_start(tmp_path)
