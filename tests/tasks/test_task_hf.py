"""Data sets of the package `datasets`, in whose place a module of the same face stands."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from nas.errors import UserError
from nas.tasks import hf, load_task


class Rows:
    def __init__(self, texts):
        self.texts, self._fingerprint = texts, str(hash(tuple(texts)))
        self.features = {"n": SimpleNamespace(dtype="int64"), "body": SimpleNamespace(dtype="string")}

    def __getitem__(self, column):
        assert column == "body"
        return self.texts


TEXTS = [f"row {i} says something about {i * i}" for i in range(900)]
SPLITS = {"train": Rows(TEXTS[:500]), "validation": Rows(TEXTS[500:520]), "test": Rows([*TEXTS[520:540], None])}
DATA = {"whole": SPLITS, "alone": {"train": Rows(TEXTS)}}


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
    def load_dataset(name, config):
        if name not in DATA:
            raise ConnectionError("no network\nand more")
        assert config in (None, "small")
        return DATA[name]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    monkeypatch.setattr(hf, "BLOCK", 1000)


def text_in(data):
    dataset = getattr(data.dataset, "dataset", data.dataset)  # of validation and test some windows are drawn
    windows = [dataset[i] for i in range(len(dataset))]
    return "".join(bytes(x.tolist()).decode() for x, _ in windows).replace("\0", "")


@pytest.mark.parametrize("column", ["", ":small", ":small:body", "::body"])
def test_its_own_splits(column):
    task = load_task(f"hf:whole{column}?window=40")
    assert task.name == f"hf:whole{column}?window=40"
    assert "row 499 says" in text_in(task.train)
    assert "row 500 says" not in text_in(task.train)
    assert task.validation.size == -(-len("\n\n".join(TEXTS[500:520])) // 40)


def test_one_split_is_divided_by_blocks_of_rows(monkeypatch):
    task = load_task("hf:alone?window=40")
    seen = {split: text_in(getattr(task, split)) for split in ("train", "validation", "test")}
    assert all(sum(f"row {i} says" in text for text in seen.values()) == 1 for i in range(0, 900, 7))
    monkeypatch.setattr(hf, "write_atomic", None)  # it is written once
    assert load_task("hf:alone?window=40").digest == task.digest


WRONG = {
    "hf": "needs a data set: write hf:DATASET",
    "hf:whole:small:n": "unknown column of text 'n'; valid: body",
    "hf:nowhere": r"'nowhere' cannot be opened \(no network\); name a folder or one that was loaded before",
    "hf:whole?windows=3": "unknown option of task 'hf'",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words(name):
    with pytest.raises(UserError, match=WRONG[name]):
        load_task(name)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="need the package `datasets`; pip install datasets"):
        load_task("hf:whole")
