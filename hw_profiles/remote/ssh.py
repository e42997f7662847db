"""A bundle run on a host over the system's own ssh and scp, with the keys and hosts that the user has set up."""

import re
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from ...errors import UserError, quoted

HOST = re.compile(r"([^\s@:/-][^\s@:/]*@)?\w[\w.-]*")
PATIENCE = 60.0
"""Seconds that a host has to answer, with the time to type a password."""


def check_host(host: str) -> None:
    """Errors: no name of a host; ssh is not installed; the host cannot be reached. Nothing is done there."""
    if not HOST.fullmatch(host):
        raise UserError(f"--host {quoted(host)} is not a host; give user@box")
    _run(["ssh", host, "true"], f"the host {host} cannot be reached", timeout=PATIENCE)


def run_on_host(host: str, bundle: Path, results: Path, *, python: str = "python3") -> Path:
    """Copy the bundle to a folder of the host's home, run it there, and bring results.json.

    The folder is named after the bundle: the same call goes on with a run that was stopped.
    Errors: ssh is not installed, the host cannot be reached, the script fails there.
    """
    check_host(host)
    folder = f"nas-{sha256(bundle.read_bytes()).hexdigest()[:12]}"
    _run(["ssh", host, f"mkdir -p {folder}"], f"{folder} cannot be made on {host}")
    _run(["scp", "-q", str(bundle), f"{host}:{folder}/bundle.zip"], f"the bundle cannot be copied to {host}")
    command = f"cd {folder} && {python} -m zipfile -e bundle.zip . && {python} run.py"
    _run(["ssh", host, command], f"the nets cannot be timed on {host}", shown=True)
    _run(["scp", "-q", f"{host}:{folder}/results.json", str(results)], f"the results cannot be copied from {host}")
    return results


def _run(command: Sequence[str], failure: str, *, shown: bool = False, timeout: float | None = None) -> None:
    """shown: the script's progress goes to the user's terminal as it comes."""
    out = None if shown else subprocess.PIPE
    try:
        ended = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{failure}: it does not answer within {timeout:.0f} s") from None
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed here; copy the bundle by hand (`nas profile pack`)") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"{command[0]} ended with {ended.returncode}"])[-1]
        raise UserError(f"{failure}: {last}")
