"""All small spaces of known weight sharing (see `check_cases.Case`)."""

import check_attention  # noqa: F401
import check_experts  # noqa: F401
import check_joins  # noqa: F401
from check_cases import CASES, IMAGES, ROWS, TOKENS, Case, Net
from check_chains import Residual

__all__ = ["CASES", "IMAGES", "ROWS", "TOKENS", "Case", "Net", "Residual"]
