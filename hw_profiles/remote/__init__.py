"""Devices elsewhere: a bundle of nets and one script go there, a file of results comes back."""

from .ingest import ingest
from .pack import pack
from .ssh import run_on_host

__all__ = ["ingest", "pack", "run_on_host"]
