import json
from pathlib import Path

import pytest
from nas_command import nas_command, tiny_space

from nas import Recipe
from nas.search.tune import QUALITY, recipes


def test_every_recipe_that_is_tried_is_valid_and_the_default_comes_first() -> None:
    drawn = recipes(40, seed=0)
    made = [Recipe(**knobs) for knobs in drawn]
    assert made[0].model_dump() == Recipe().model_dump()
    assert len(set(map(str, drawn))) == 40
    assert {r.sampling for r in made} == {"sandwich", "uniform", "multi-arch"}
    assert recipes(3, seed=0) == drawn[:3]


@pytest.mark.slow
def test_the_command_writes_the_best_recipe(tmp_path: Path) -> None:
    pytest.importorskip("ray.tune")
    space = tiny_space(tmp_path)
    result = nas_command("tune", "--run", tmp_path / "run", "--space", space, "--trials", 3, "--steps", 16)
    assert result.code == 0, result.err
    written = json.loads((tmp_path / "run" / "tune.json").read_text())
    assert len(written["recipes"]) == 3
    assert written["best"] == written["recipes"][0]
    finished = [row for row in written["recipes"] if row["steps"] == 16]
    assert written["best"][QUALITY] == max(row[QUALITY] for row in finished)
    assert f"--sampling {written['best']['sampling']}" in result.out


def test_too_few_steps_are_refused(tmp_path: Path) -> None:
    result = nas_command("tune", "--run", tmp_path / "run", "--space", tiny_space(tmp_path), "--steps", 3)
    assert result.code == 2
    assert not (tmp_path / "run").exists()
