"""Files that cannot be used are one sentence; a changed one is noticed."""

import json

import pytest
import torch
from safetensors.torch import save

from nas import UserError
from nas.files import check_seal, check_sha256, read_json, read_tensors, sha256_of, write_json

DEEP = b"[" * 300_000 + b"]" * 300_000


@pytest.mark.parametrize(
    "content",
    [b"null", b"[1]", b"", bytes(40), b"\xff\xfe{}", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1, "a": 2}',
     b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", b'{"a": ' + DEEP + b"}", b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["null", "list", "empty", "zeros", "binary", "nan", "overflow", "twice", "deep", "deeper", "digits"],
)  # fmt: skip
def test_json_that_is_no_description_is_refused_by_name(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is not a description of a run: .+") as error:
        read_json(path, "a run")
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_a_changed_value_breaks_the_seal(tmp_path):
    path = write_json(tmp_path / "model.json", {"width": 32, "facts": {"accuracy": 0.1 + 0.2, "of": (1, 2)}})
    content = read_json(path, "a model")
    check_seal(content, path)
    content["facts"]["accuracy"] = 0.3
    with pytest.raises(UserError, match="changed after it was written"):
        check_seal(json.loads(json.dumps(content)), path)


WHOLE = save({"a": torch.ones(3, 4), "mask": torch.tensor([0.0, -torch.inf])})


@pytest.mark.parametrize(
    "content",
    [
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-1],
        b"",
        bytes(len(WHOLE)),
        b"\xff" * 99,
        save({"a": torch.tensor([torch.nan])}),
    ],
    ids=["half", "one byte less", "empty", "zeros", "foreign", "nan"],
)
def test_tensors_that_cannot_be_used_are_refused_by_name(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        read_tensors(path)


def test_only_named_tensors_may_be_infinite_and_a_flipped_bit_changes_the_sum(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    assert read_tensors(path, ["mask"]).keys() == {"a", "mask"}
    with pytest.raises(UserError, match="1 of 2 numbers of mask are not finite"):
        read_tensors(path)
    before = sha256_of(path)
    check_sha256(path, before)
    path.write_bytes(WHOLE[:-20] + bytes([WHOLE[-20] ^ 1]) + WHOLE[-19:])
    with pytest.raises(UserError, match="damaged"):
        check_sha256(path, before)
