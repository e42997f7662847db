"""One session of measuring: batches of nets, each beside a reference net; in a file, so that a kill loses one batch."""

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from ...errors import UserError
from ...files import write_atomic
from ..schema import Frozen, NotNegative
from .timing import Measurement, Protocol

MOST_MS = 1e8
"""A day. Nobody waits longer for a call."""
MOST_SLOW = 12
"""Batches that are measured again, at most."""
Key = tuple[str, str]
"""Family and id of a net."""


class Timed(Frozen):
    """What one net took."""

    family: str
    net: str
    """The architecture's id."""
    median_ms: float = Field(gt=0, le=MOST_MS)
    p95_ms: float = Field(gt=0, le=MOST_MS)
    noise: NotNegative
    repeats: int = Field(ge=1, le=10**12)
    left_out: float = Field(default=0.0, ge=0, le=1)

    @property
    def key(self) -> Key:
        return self.family, self.net

    @classmethod
    def of(cls, key: Key, measurement: Measurement) -> "Timed":
        return cls(family=key[0], net=key[1], **vars(measurement))


class Batch(Frozen):
    """Nets timed in turns, and what the reference took between them."""

    nets: list[Timed] = Field(min_length=1)
    reference_ms: float = Field(gt=0, le=MOST_MS)
    seconds: NotNegative = 0.0
    again: bool = False
    """The nets were timed before: for the repeat noise."""


class Session(Frozen):
    """All batches so far. `key` says of what: a session goes on only where it is the same."""

    format: Literal[1] = 1
    key: dict[str, Any]
    slow: float = Protocol.slow
    """See `Protocol`."""
    batches: list[Batch] = Field(default_factory=list)
    memory_mib: dict[str, float] = Field(default_factory=dict)
    """Peak memory by the net's id, where it is measured."""

    @property
    def sound(self) -> list[Batch]:
        """Batches of which none was slow as a whole: then nets differ in how much slower they are.

        Where many were slow this is how the machine is now, and all of them count.
        """
        bound = (1 + self.slow) * self.fastest_ms
        results = [batch for batch in self.batches if batch.reference_ms <= bound]
        return results if len(self.batches) - len(results) <= MOST_SLOW else self.batches

    @property
    def fastest_ms(self) -> float:
        """What the reference takes on a quiet machine; infinity: nothing was timed yet."""
        return min((batch.reference_ms for batch in self.batches), default=inf)

    @property
    def reference_ms(self) -> float:
        return float(np.median([batch.reference_ms for batch in self.sound]))

    @property
    def drift(self) -> float:
        """The slowest sound batch over the fastest, by the reference."""
        results = [batch.reference_ms for batch in self.sound]
        return max(results) / min(results)

    @property
    def seconds(self) -> float:
        return sum(batch.seconds for batch in self.batches)

    @property
    def left_out(self) -> float:
        """Share of the calls that were disturbed."""
        return float(np.mean([timed.left_out for batch in self.batches for timed in batch.nets]))

    def timed(self, *, again: bool = False) -> dict[Key, Timed]:
        """Each net of a sound batch, its last timing, with the drift of its batch divided out by the reference.

        again: the timing for the repeat noise instead.
        """
        results: dict[Key, Timed] = {}
        for batch in self.sound:
            if batch.again is again:
                scale = self.reference_ms / batch.reference_ms
                for t in batch.nets:
                    update = {"median_ms": t.median_ms * scale, "p95_ms": t.p95_ms * scale}
                    results[t.key] = t.model_copy(update=update)
        return results

    @property
    def repeat_noise(self) -> float | None:
        """Root mean square of the log ratio of two timings of a net in this session; None: none was timed again."""
        first, second = self.timed(), self.timed(again=True)
        both = [np.log(second[key].median_ms / first[key].median_ms) for key in second if key in first]
        return float(np.sqrt(np.mean(np.square(both)))) if both else None


def open_session(path: Path | None, key: Mapping[str, Any], slow: float) -> Session:
    """The session of that key in the file, or a new one. Error: the file is of another session, or none."""
    plain = json.loads(json.dumps(key))
    if path is None or not path.exists():
        return Session(key=plain, slow=slow)
    try:
        result = Session.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError):
        raise UserError(f"{path} is not a progress file of a profile; delete it or name another --out") from None
    if result.key != plain:
        odd = sorted(name for name in {*result.key, *plain} if result.key.get(name) != plain.get(name))
        raise UserError(f"{path} holds a profile begun with another {', '.join(odd)}; delete it or name another --out")
    return result


def add(session: Session, batch: Batch, path: Path | None) -> Session:
    """The session with one more batch, in its file too."""
    return _kept(session.model_copy(update={"batches": [*session.batches, batch]}), path)


def add_memory(session: Session, net: str, mib: float, path: Path | None) -> Session:
    """The session with the peak memory of one more net."""
    return _kept(session.model_copy(update={"memory_mib": {**session.memory_mib, net: mib}}), path)


def _kept(session: Session, path: Path | None) -> Session:
    if path is not None:
        write_atomic(path, session.model_dump_json(indent=1))
    return session
