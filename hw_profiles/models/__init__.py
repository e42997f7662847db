"""From a cost to milliseconds: rooflines, what they leave unexplained, and intervals."""
