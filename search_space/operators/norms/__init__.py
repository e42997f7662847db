"""Normalisations. Every file here is registered automatically."""
