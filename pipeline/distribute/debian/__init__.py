"""Debian binary packages, made of a released archive.

``split`` decides which package has which file, ``render`` what else is in each, both without
effects; ``build`` asks a suite's container what it has and lets Debian's own tools pack and judge.
"""
