"""Every registered task keeps the contract. A new task is tested by being there; an argument it needs is added here."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from nas.errors import UserError
from nas.tasks import Task, load_task, task_names
from nas.tasks.fashion import DEBIAN
from nas.testing import check_task, task_checks


def _make_images(root: Path) -> str:
    """60 images in three classes."""
    generator = torch.Generator().manual_seed(0)
    for index in range(60):
        pixels = torch.randint(256, (20, 24, 3), generator=generator, dtype=torch.uint8)
        path = root / f"class{index % 3}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    return f"image-folder:{root}?size=16"


def _make_rows(root: Path) -> str:
    """A data set of 3,000 rows, for the package that reads it."""
    pytest.importorskip("datasets")
    (root / "train.jsonl").write_text("\n".join(f'{{"text": "row {i} of {i * i}"}}' for i in range(3000)))
    return f"hf:{root}"


def _make_encoder(root: Path) -> str:
    """A folder of a small sentence encoder."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, **byte_words()}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(root / "tokenizer.json"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=257, max_position_embeddings=64, **sizes)
    transformers.BertModel(config).save_pretrained(str(root))
    return f"embeddings:?teacher={root}&window=48&sentences=200"


def byte_words() -> dict[str, int]:
    return {chr(code): code + 1 for code in range(256)}


TASKS = [pytest.param(each, marks=[pytest.mark.slow] * (each in ("embeddings", "hf"))) for each in task_names()]


@pytest.fixture(scope="module", params=TASKS)
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "fashion-mnist" and not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed, and tests do not download")
    if request.param == "hf":
        return _make_rows(tmp_path_factory.mktemp("rows"))
    if request.param == "embeddings":
        return _make_encoder(tmp_path_factory.mktemp("encoder"))
    return _make_images(tmp_path_factory.mktemp("images")) if request.param == "image-folder" else request.param


@pytest.fixture(scope="module")
def task(name: str) -> Task:
    return load_task(name)


def test_contract(name: str) -> None:
    check_task(name)


def test_it_says_what_it_is(task: Task, name: str) -> None:
    assert task.name == name
    assert task.metric.name
    assert task.source
    assert task.preprocessing


@pytest.mark.parametrize("size", [0, 10**9])
def test_an_impossible_batch_size_is_refused(task: Task, size: int) -> None:
    with pytest.raises(UserError, match="batch size"):
        task.batch(0, size, 0)


def test_a_contract_that_is_broken_is_noticed(task: Task) -> None:
    """The checks are no formality: the same data as train and validation, and a metric that runs the wrong way."""
    with pytest.raises(AssertionError, match=r"splits_are_disjoint: .* share samples"):
        check_task(replace(task, train=task.train.first(100), validation=task.train.first(5)))
    wrong = "max" if task.metric.better == "min" else "min"
    if check := task_checks(replace(task, metric=replace(task.metric, better=wrong))).get(
        "a_perfect_answer_is_the_best"
    ):
        with pytest.raises(AssertionError):
            check()
