"""Mixers: tokens exchange information. Every file here is registered automatically."""
