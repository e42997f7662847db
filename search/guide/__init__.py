"""What guides a search: surrogates of its numbers, evolution on them, and what a point would add to a front."""
