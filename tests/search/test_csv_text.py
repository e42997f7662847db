"""Words that a spreadsheet would run are text in a CSV file."""

import pandas as pd

from nas.search.csv_text import csv_of


def test_formulas_are_text_and_numbers_stay():
    table = pd.DataFrame({"=gene": ["=1+1", "@x", "-5%", "plain"], "n": [-1.5, 2, 3, 4], "o": [None, -3, "+a", True]})
    assert csv_of(table).splitlines() == ["'=gene,n,o", "'=1+1,-1.5,", "'@x,2.0,-3", "'-5%,3.0,'+a", "plain,4.0,True"]
