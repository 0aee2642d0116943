"""Imports what of Buildbot the master uses, before a test: importing asks programs for things.

It also warns of a name that newer releases of Twisted do not want.
"""

import importlib
import warnings

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from buildbot.plugins import schedulers

    for name in ("ForceScheduler", "Nightly", "Periodic"):
        getattr(schedulers, name)
    importlib.import_module("pipeline.frontends.buildbot.configuration")
