"""Devices on other machines: a bundle of nets and one script go there, a file of results comes back."""

from .ingest import ingest, read_spec
from .pack import pack
from .ssh import check_host, run_on_host

__all__ = ["check_host", "ingest", "pack", "read_spec", "run_on_host"]
