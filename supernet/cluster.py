"""Processes of this machine or of a Ray cluster: whether they can be had, and the connection to them."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..errors import UserError

MOST_EACH = 16
"""Processes for each core of this machine, at most."""
PATIENCE = 10.0
"""Seconds in which a machine of a cluster has to answer; Ray itself would wait for minutes."""


def check_workers(workers: int | None, address: str | None) -> None:
    """Errors: a number below 1; Ray is wanted and not installed, or no cluster is at `address`."""
    most = MOST_EACH * (os.cpu_count() or 1)
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}")
    if workers is not None and address is None and workers > most:
        raise UserError(f"workers must be at most {most} on this machine, {MOST_EACH} for each core, got {workers}")
    if not wants_ray(workers, address):
        return
    if find_spec("ray") is None:
        raise UserError('workers need Ray, which is not installed; install it: pip install "nas[ray]"')
    if address is not None:
        with connected(None, address):
            pass


def wants_ray(workers: int | None, address: str | None) -> bool:
    return address is not None or (workers or 1) > 1


@contextmanager
def connected(workers: int | None, address: str | None, *, prints: bool = True) -> Iterator[Any]:
    """The module `ray`, connected. What was started or connected to here is left again; a cluster goes on.

    prints: show what processes of this machine print.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:  # from here on, as a start that is interrupted leaves processes too
        _start(ray, workers, address, prints)
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, workers: int | None, address: str | None, prints: bool) -> None:
    if address is None:
        quiet: Any = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": prints}
        ray.init(address="local", num_cpus=workers, **quiet)
        return
    if address.startswith("ray://"):
        raise UserError(f"{address} is Ray's client, which streams no results; search on a machine of the cluster")
    try:
        _reach(address)
        ray.init(address=address, logging_level=logging.ERROR)
    except (OSError, ValueError, OverflowError, RuntimeError, ray.exceptions.RayError) as error:
        cause = first_line(error)
        raise UserError(f"no Ray cluster answers at {address!r} ({cause}); `ray start --head` makes one") from error


def _reach(address: str) -> None:
    """Error: OSError, where nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE):
            pass


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
