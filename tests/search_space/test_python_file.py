"""A space file's code runs where the user named it, nowhere else; what is wrong with it is one sentence."""

import hashlib

import pytest

from nas import SearchSpace, UserError
from nas.search_space.locate import describe_space, net_from, space_from, trust
from nas.search_space.python_file import python_space

GOOD = "from torch import nn\ndef net(trial): return nn.Linear(4, trial.suggest_int('width', 2, 4))\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))


def stranger(folder, code):
    """A description whose hash fits its file, as anybody can write it."""
    path = folder / "payload.py"
    path.write_text(code)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"python": str(path), "function": "net", "sha256": digest, "input_shape": [4], "classes": 3}


def test_a_file_that_nobody_named_is_not_run(tmp_path):
    ran = tmp_path / "ran"
    description = stranger(tmp_path, f"open({str(ran)!r}, 'w')\n{GOOD}")
    for use in (space_from, lambda d: net_from(d, {"width": 2})):
        with pytest.raises(UserError, match=r"would run the code of .*payload\.py"):
            use(description)
    assert not ran.exists()
    trust(description)
    assert net_from(description, {"width": 2}).out_features == 2
    assert ran.exists()


def test_naming_a_file_is_trust_in_it_as_it_is_at_that_place(tmp_path):
    (tmp_path / "space.py").write_text(GOOD)
    description = describe_space(f"{tmp_path}/space.py:net", (4,), 3)
    assert space_from(description).largest == {"width": 4}
    moved = tmp_path / "other"
    moved.mkdir()
    with pytest.raises(UserError, match="would run the code"):  # its neighbours may be others
        space_from(stranger(moved, GOOD))
    (tmp_path / "space.py").write_text(GOOD + "# changed")
    with pytest.raises(UserError, match="has changed since"):
        space_from(description)
    changed = hashlib.sha256((GOOD + "# changed").encode()).hexdigest()
    with pytest.raises(UserError, match="would run the code"):
        space_from({**description, "sha256": changed})


def test_a_relative_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not an absolute path"):
        space_from({**stranger(tmp_path, GOOD), "python": "payload.py"})


DAMAGED = {
    "nothing": {},
    "shape": {"transformer": {}, "input_shape": None, "classes": 10},
    "negative": {"transformer": {}, "input_shape": [1, 8, 8], "classes": -3},
    "word": {"transformer": {}, "input_shape": [1, 8, 8], "classes": "x"},
    "options": {"transformer": 5, "input_shape": [1, 8, 8], "classes": 10},
    "neither": {"input_shape": [1, 8, 8], "classes": 10},
    "policy": {"transformer": {}, "input_shape": [1, 8, 8], "classes": 10, "quantize": {"a": 1}},
    "schemes": {"transformer": {}, "input_shape": [1, 8, 8], "classes": 10, "quantize": {"schemes": [3]}},
    "no mapping": 5,
}


@pytest.mark.parametrize("description", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_description_is_one_sentence(description):
    with pytest.raises(UserError, match="the description of the space is damaged: "):
        space_from(description)


WRONG = {
    "import sys\nsys.exit(0)\n": r"space\.py, line 2, fails when it is imported: it calls sys\.exit\(0\)",
    "x = 1\nraise KeyError('k')\n": r"line 2, fails when it is imported: KeyError",
    "def net(trial:\n": r"space\.py, line 1, fails when it is imported: SyntaxError",
    "\ndef net(): pass\n": r"space\.py, line 2: net\(\) cannot be called: too many positional arguments; a",
    "def net(trial, width): pass\n": r"net\(trial, width\) cannot be called: missing a required argument: 'width'",
    "class net: pass\n": r"space\.py, line 1: net is a class; a space function takes a trial",
    "def vit(trial): pass\n": r"unknown function in space\.py 'net'; valid: vit",
}


@pytest.mark.parametrize(("code", "message"), WRONG.items())
def test_what_is_wrong_with_a_file_names_its_line(tmp_path, code, message):
    path = tmp_path / "space.py"
    path.write_text(code)
    with pytest.raises(UserError, match=message):
        python_space(path, "net", {"input_shape": (4,), "classes": 3})


@pytest.mark.parametrize(
    "names", ["while trial.suggest_int(f'g{i}', 1, 2): i += 1", "while trial.suggest_int('g', 1, 2): i += 1"]
)
def test_a_function_that_asks_endlessly_is_stopped(tmp_path, names):
    path = tmp_path / "space.py"
    path.write_text(f"def net(trial):\n    i = 0\n    {names}\n")
    with pytest.raises(UserError, match="suggests genes without end"):
        SearchSpace(python_space(path, "net", {"input_shape": (4,), "classes": 3}))
