"""Trained models made elastic: where they come from, and the supernet whose largest net they are."""
