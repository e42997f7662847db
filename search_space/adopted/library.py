"""The transformers library, which adopted models need and nothing else does."""

from functools import cache
from typing import Any

from ...errors import UserError


@cache
def transformers() -> Any:
    """The library, which shows no progress of its own. Error: it is not installed."""
    try:
        import transformers as library
    except ImportError:
        raise UserError('adopted models need the transformers library; pip install "nas[adopt]"') from None
    library.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return library
