"""Signing: the manifest, the checksums file and its detached signature."""
