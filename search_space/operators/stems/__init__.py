"""Stems: raw input to tokens. Every file here is found by itself."""
