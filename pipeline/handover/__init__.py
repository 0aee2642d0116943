"""Hands stage outputs from one machine to another, checked by digest."""
