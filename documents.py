"""Text that users and strangers wrote, read with limits: YAML, of which JSON is a part.

A file that is too large, too deep or says one thing twice is refused in one sentence before anything is built of it.
"""

from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import yaml
from yaml import events

from .errors import UserError, quoted

MOST_BYTES = 16 * 2**20
MOST_VALUES = 500_000
"""Values of a YAML file. One that is named and used again (`&name`, `*name`) counts each time, with all within it."""
DEEPEST = 64
"""Lists and mappings within each other: parsers recurse, and a thousand times as many end the process."""


def read_text(path: str | PathLike[str], what: str) -> str:
    """The text of a file. what: how a message calls it ("the device file"). Errors: missing, no text, too large."""
    try:
        with open(path, "rb") as handle:
            content = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{what} {path} is larger than {MOST_BYTES >> 20} MiB, the most that is read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not text in UTF-8 (byte {error.start + 1})") from None


def read_yaml(path: str | PathLike[str], what: str) -> Any:
    """The content of a YAML file. Errors: those of `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path, what), f"{what} {path}")


def parse_yaml(text: str, what: str) -> Any:
    """Plain data. Errors: no YAML, a key twice, too deep, too much; with the line."""
    try:
        _check_events(text)
        return yaml.CSafeLoader(text).get_single_data()  # in C: ten times faster; pyyaml's wheels have it
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{what} is not valid YAML: {error.problem}{line}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist, a number of 5,000 digits
        raise UserError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from None


@dataclass
class _Open:
    """A list or mapping whose end has not come. keys: of a mapping, those so far; before: values before it."""

    anchor: str | None
    before: int
    keys: set[str] | None
    key_next: bool = True


@dataclass
class _Check:
    """Follows the parser's events, which do not recurse."""

    open: list[_Open] = field(default_factory=list)
    values: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    """Values within what is named."""

    def begin(self, event: Any) -> None:
        """A value begins: the event of a scalar, an alias, a list or a mapping."""
        self._as_key(event)
        before, self.values = self.values, self.values + 1
        if isinstance(event, events.AliasEvent):
            if any(one.anchor == event.anchor for one in self.open):
                raise _wrong(f"*{event.anchor} is a part of itself", event)
            self.values += self.sizes.get(event.anchor or "", 0)
        elif event.tag is not None:
            raise _wrong(f"the tag {quoted(event.tag)} is not read; write the value without it", event)
        elif isinstance(event, events.CollectionStartEvent):
            keys = set[str]() if isinstance(event, events.MappingStartEvent) else None
            self.open.append(_Open(event.anchor, before, keys))
        if len(self.open) > DEEPEST:
            raise _wrong(f"lists and mappings lie more than {DEEPEST} deep in each other", event)
        if self.values > MOST_VALUES:
            raise _wrong(f"it holds more than {MOST_VALUES:,} values", event)

    def end(self) -> None:
        """The innermost list or mapping ends."""
        ended = self.open.pop()
        if ended.anchor is not None:
            self.sizes[ended.anchor] = self.values - ended.before

    def _as_key(self, event: Any) -> None:
        """Error: a key that occurs twice; of its two values one would be lost."""
        within = self.open[-1] if self.open else None
        if within is None or within.keys is None:
            return
        if within.key_next and isinstance(event, events.ScalarEvent):
            if event.value in within.keys:
                raise _wrong(f"the key {quoted(event.value)} occurs twice", event)
            within.keys.add(event.value)
        within.key_next = not within.key_next


def _check_events(text: str) -> None:
    check = _Check()
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, events.NodeEvent):
            check.begin(event)
        elif isinstance(event, events.CollectionEndEvent):
            check.end()


def _wrong(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
