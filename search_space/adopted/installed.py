"""The transformers library, which adopted models need and nothing else does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import UserError


def transformers() -> Any:
    """The library. Error: it is not installed."""
    try:
        import transformers as library
    except ImportError:
        raise UserError('adopted models need the transformers library; pip install "nas[adopt]"') from None
    return library


@contextmanager
def quiet_library() -> Iterator[None]:
    """The library draws no progress bars meanwhile."""
    logging = transformers().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
