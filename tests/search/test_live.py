"""What a search shows while it runs, what it writes in its log, and what scripts get."""

import io
import json
import logging
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import nas
from nas.cli import live
from nas.search.reporting.answer_json import plain
from nas.search.reporting.journal import LOG, FrontLog, journal
from nas.tasks.task import ACCURACY
from nas.values import LATENCY

SPACE = nas.GeneSpace({"a": [1, 2, 3, 4, 5, 6], "b": [1, 2, 3, 4, 5, 6]})
OBJECTIVES = {
    "accuracy": replace(nas.maximize(lambda a: a["a"] / 10), metric=ACCURACY),
    "latency_ms": replace(nas.minimize(lambda a: a["a"] * a["b"]), metric=LATENCY),
}


def watched(terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160)
    with live.Display(console) as progress:
        nas.search(SPACE, OBJECTIVES, evaluations=30, progress=progress.at("Searching"))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_a_terminal_shows_bar_speed_hypervolume_and_front() -> None:
    text = watched(terminal=True)
    for words in ("30/30", "/s, hypervolume", "hypervolume 0.", "Front so far", "accuracy", "60.00%"):
        assert words in text


def test_elsewhere_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(terminal=False) == ""  # it is over before the first
    monkeypatch.setattr(live, "EVERY", 0.0)
    lines = watched(terminal=False).splitlines()
    assert len(lines) == 30
    assert re.match(r"Searching 30/30, \S+/s, ETA 0 s, hypervolume 0\.\d+, front \d nets, best 60", lines[-1])


def test_the_pace_does_not_count_what_was_loaded() -> None:
    now = [0.0]
    pace = live.Pace(clock=lambda: now[0])
    pace.update(101)
    assert pace.eta(9) == "unknown"
    now[0] = 2.0
    pace.update(111)
    assert (pace.rate, pace.eta(10)) == (5.0, "2 s")


def test_the_log_grows_and_leaves_logging_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        with journal(tmp_path, "nas search --x"):
            nas.search(SPACE, OBJECTIVES, evaluations=20, progress=FrontLog())
    lines = (tmp_path / "search.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|ERROR) ", line) for line in lines)
    said = [line.split(" ", 3)[3] for line in lines]
    half = len(said) // 2
    assert said[:half] == said[half:]
    assert said[0] == "command: nas search --x"
    assert said[1] == "start: 0 of 20 nets were evaluated before"
    assert re.match(r"1/20: net \w+ joins the front \(accuracy 60.00%, latency_ms 36\); 1 nets", said[2])
    assert said[-1] == "end"
    assert (LOG.handlers, LOG.level) == ([], logging.NOTSET)


def test_the_log_says_how_a_search_broke(tmp_path: Path) -> None:
    with pytest.raises(nas.UserError), journal(tmp_path, "nas search"):
        raise nas.UserError("no\nway")
    assert (tmp_path / "search.log").read_text().endswith("ERROR end: UserError: no way\n")


def test_json_knows_no_nan_and_no_numpy() -> None:
    found = plain({"a": np.float64(0.5), "b": (math.nan, np.int64(3), math.inf), "c": {1: np.bool_(True)}, "d": None})
    assert json.loads(json.dumps(found)) == {"a": 0.5, "b": [None, 3, None], "c": {"1": True}, "d": None}
