"""Mixers: tokens exchange information. Every file here is found by itself."""
