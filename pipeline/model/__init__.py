"""Frozen data that every part of the pipeline shares; nothing here has effects."""
