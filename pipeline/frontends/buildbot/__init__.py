"""The plan as a Buildbot master: the only package that builds on Buildbot's classes (GPL-2.0).

What is decided without Buildbot stands in :mod:`pipeline.farm.units`. Stock Buildbot does not keep
ten hours' work through the death of a process, so this has its own build class, fan-out step and
limit of attempts. They use names that are private to Buildbot: its version is pinned, and each has
a test that fails with the stock class.
"""
