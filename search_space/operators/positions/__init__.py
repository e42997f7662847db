"""Positions: what tells tokens apart by place. Every file here is registered automatically."""
