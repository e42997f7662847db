"""Text for a terminal, whatever it holds: users' words are never markup, and a character that cannot be shown is
replaced."""

import codecs
import re
from io import TextIOWrapper
from typing import TextIO

LONGEST = 1200
"""Characters of a message; what is left out of a longer one is its middle."""
GLYPHS = {"█": "#", "│": "|", "─": "-", "÷": "/", "…": "...", "•": "*", "µ": "u"}


def one_line(message: str) -> str:
    """The message on one line, without control characters, and not longer than a screen."""
    joined = re.sub(r"\s*[\r\n]\s*", " ", message.strip())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return shown if len(shown) <= LONGEST else f"{shown[: 2 * LONGEST // 3]} ... {shown[-LONGEST // 3 :]}"


def degrade(stream: TextIO) -> None:
    """A stream in ASCII or Latin-1 gets a likeness of what it cannot write, in the place of an error."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="nas-likeness")


def _likeness(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(GLYPHS.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("nas-likeness", _likeness)
