"""Files that change together, or not at all."""

import pytest

from nas.search.replaced import replaced


def write(folder, text):
    (folder / "best").mkdir()
    (folder / "best" / "net").write_text(text)
    (folder / "front.csv").write_text(text)


def content(folder):
    return (folder / "best" / "net").read_text(), (folder / "front.csv").read_text()


def test_nothing_changes_until_all_is_written(tmp_path):
    write(tmp_path, "old")
    with (
        pytest.raises(FileExistsError, match=f"{tmp_path / 'best'}'"),
        replaced(tmp_path, ["best", "front.csv"]) as beside,
    ):
        [write(beside, "new") for _ in range(2)]
    assert content(tmp_path) == ("old", "old")
    (tmp_path / ".new.1").mkdir()  # what a killed process left
    with replaced(tmp_path, ["best", "front.csv"]) as beside:
        write(beside, "new")
        assert content(tmp_path) == ("old", "old")
    assert content(tmp_path) == ("new", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "front.csv"]
