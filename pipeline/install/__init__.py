"""Installs what was made by real clients, in clean containers."""
