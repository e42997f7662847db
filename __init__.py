"""Neural architecture search and auto-scaling for transformers."""
