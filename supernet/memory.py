"""Whether the shared weights fit into this machine, asked before they are made."""

import os
import sys

from ..errors import UserError

BYTES = 4
"""Of a parameter: shared weights are floats of 32 bits."""


def check_memory(parameters: int) -> None:
    """Error: weights of that number take more than the memory of this machine."""
    if sys.platform == "win32":
        return
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if BYTES * parameters > most:
        raise UserError(
            f"the largest net of the space has {parameters:,} parameters, {BYTES * parameters / 2**30:,.0f} GiB; this "
            f"machine has {most / 2**30:,.0f} GiB of memory. Choose smaller widths, or fewer layers"
        )
