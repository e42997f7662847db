"""Fitted profiles, kept in the user's cache: to leave each point of a device out of its fit takes up to two seconds.

A profile is kept under a hash of its file, of this package's code and of the versions of what computes it.
"""

import hashlib
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..errors import UserError
from ..files import cache_folder, write_atomic
from .device import Device


def kept(text: str) -> Device | None:
    """The fitted device of a file that holds `text`, if it is kept."""
    with suppress(OSError, UserError, UnicodeDecodeError):
        return Device.from_json(_place(text).read_text(encoding="utf-8"))
    return None


def keep(text: str, device: Device) -> None:
    """Keep it; a cache that cannot be written is no error."""
    with suppress(OSError):
        write_atomic(_place(text), device.to_json())


def _place(text: str) -> Path:
    return cache_folder() / "devices" / f"{hashlib.sha256(_code() + text.encode()).hexdigest()}.json"


@cache
def _code() -> bytes:
    """Digest of all that a fit depends on beside the device file."""
    digest = hashlib.sha256(f"{version('numpy')} {version('scipy')}".encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
