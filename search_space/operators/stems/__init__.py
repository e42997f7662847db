"""Stems: raw input to tokens. Every file here is registered automatically."""
