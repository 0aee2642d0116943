"""Packaging: a translated executable becomes archives with equal bytes on every machine."""
