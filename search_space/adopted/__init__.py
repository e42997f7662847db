"""Spaces of trained models: the model's own class, built on the meta device and narrowed in place."""
