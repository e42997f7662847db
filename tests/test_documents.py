"""What strangers' files may not be: too large, too deep, ambiguous. Each is refused in one sentence, and soon."""

import pytest

from nas import documents
from nas.documents import parse_yaml, read_yaml
from nas.errors import UserError

ALIASES = "\n".join(
    ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
)
REFUSED = {
    "brackets": ("[" * 30_000, r"more than 64 deep in each other \(line 1, column 65\)"),
    "braces": ("{a: " * 30_000, "more than 64 deep"),
    "dashes": ("- " * 30_000, "more than 64 deep"),
    "a key twice": ("a: 1\nb: {c: 1, c: 2}", r"the key 'c' occurs twice \(line 2, column 11\)"),
    "ten billion by aliases": (ALIASES, "it holds more than 500,000 values"),
    "a part of itself": ("a: &x [*x]", r"\*x is a part of itself"),
    "a tag": ("a: !!python/object/apply:os.system [ls]", "python/object/apply:os.system' is not read"),
    "a date that does not exist": ("a: 2024-13-45", "month must be in"),
    "5,000 digits": ("a: " + "9" * 5000, "5000 digits"),
    "an unfinished list": ("a: [1", r"did not find expected .* \(line"),
    "two documents": ("a: 1\n---\na: 2", "found another document"),
    "a control character": ("a: \0", "control characters"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_yaml_that_is_refused(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(UserError, match=f"^the file x is not valid YAML: .*{said}"):
        parse_yaml(text, "the file x")


def test_what_is_plain_is_read_as_ever() -> None:
    text = "a: &x {b: [1, 2.5, null, 'c']}\nd: *x\ne: {<<: *x, f: 1}\n1: {b: 1}"
    inner = {"b": [1, 2.5, None, "c"]}
    assert parse_yaml(text, "x") == {"a": inner, "d": inner, "e": {**inner, "f": 1}, 1: {"b": 1}}


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(documents, "MOST_BYTES", 2**20)
    path = tmp_path / "a[1].yaml"
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(UserError, match=r"a\[1\].yaml is larger than 1 MiB"):
        read_yaml(path, "the file")
