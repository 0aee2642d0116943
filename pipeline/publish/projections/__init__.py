"""Indexes, pages, pointers and definitions: what clients read, as pure functions of a view.

Rules for all of them. Releases are in the order of their versions, never of their publication, so
that a backport does not become the newest. A yanked release is offered to no client; a staged one
is on the pages only. Equal states give equal bytes.
"""

from pipeline.publish.projections.kinds import KINDS
from pipeline.publish.view import Projection, View


def projections(view: View) -> dict[str, Projection]:
    """Return every projection of every product by store key, sorted.

    Raises:
        UnknownNameError: a release is for a platform that left the table.
        ConfigError: interpreters' files disagree about the ABI of one Python version.
    """
    found = {key: item for kind in KINDS.values() for key, item in kind(view).items()}
    return dict(sorted(found.items()))
