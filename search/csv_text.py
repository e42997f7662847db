"""CSV that a spreadsheet shows and does not run."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula for spreadsheets; an apostrophe before it makes it text."""


def csv_of(table: pd.DataFrame) -> str:
    """The table as CSV without its index. Words that a spreadsheet would run get an apostrophe; numbers stay."""
    return table.rename(columns=_as_text).map(_as_text).to_csv(index=False)


def _as_text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
