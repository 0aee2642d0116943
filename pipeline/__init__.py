"""Build, verify, sign and publish interpreters written in RPython, PyPy first.

The whole flow is in :mod:`pipeline.stages`; ``python -m pipeline --help`` lists the verbs.
"""
