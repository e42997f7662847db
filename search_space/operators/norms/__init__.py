"""Normalisations. Every file here is found by itself."""
