"""Loss terms that a net leaves beside its outputs: the balance of a router, early exits.

A module calls `add_loss("router_balance", value)` in its forward; a training adds what was left, weighted by name, to
the task's loss. Elsewhere the call does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_terms: ContextVar[dict[str, Tensor] | None] = ContextVar("terms", default=None)


def add_loss(name: str, value: Tensor) -> None:
    """Leave a term for the loss of a training step; terms of one name add up.

    name: of the weight in `nas.Task.of(..., terms={name: weight})`; 1 where none is given. value: a scalar tensor.
    Outside of a training the call does nothing.

    >>> nas.add_loss("router_balance", torch.zeros(()))
    """
    terms = _terms.get()
    if terms is not None:
        terms[name] = terms[name] + value if name in terms else value


@contextmanager
def collected_terms() -> Iterator[dict[str, Tensor]]:
    """The terms that nets leave while this lasts, by name."""
    terms: dict[str, Tensor] = {}
    token = _terms.set(terms)
    try:
        yield terms
    finally:
        _terms.reset(token)
