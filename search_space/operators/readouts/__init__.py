"""Readouts: tokens to the answer. Every file here is registered automatically."""
