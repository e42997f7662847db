"""Readouts: tokens to the answer. Every file here is found by itself."""
