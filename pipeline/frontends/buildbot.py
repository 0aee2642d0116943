"""The plan as a Buildbot master: the only module that builds on Buildbot's classes (GPL-2.0)."""
