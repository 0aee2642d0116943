"""Imports what the master uses of Buildbot before any test: importing asks programs for things."""

import importlib

from buildbot.plugins import schedulers

for name in ("ForceScheduler", "Nightly", "Periodic"):
    getattr(schedulers, name)
importlib.import_module("pipeline.frontends.buildbot.configuration")
