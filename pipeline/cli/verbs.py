"""Every verb there is. Importing this takes a second: all libraries come with it."""

from pipeline.cli.bisecting import add_bisect
from pipeline.cli.building import add_building_verbs
from pipeline.cli.changing import add_changing_verbs
from pipeline.cli.farming import add_farming_verbs
from pipeline.cli.handing import add_hand_over_policy, add_prepare
from pipeline.cli.installing import add_install_check
from pipeline.cli.options import Verbs
from pipeline.cli.pruning import add_prune
from pipeline.cli.publishing import add_publishing_verbs
from pipeline.cli.standing import add_status
from pipeline.cli.workflows import add_workflow_verbs
from pipeline.cli.working import add_working_verbs


def add_verbs(verbs: Verbs) -> None:
    """Add all of them, in the order in which they are listed."""
    add_building_verbs(verbs)
    add_prepare(verbs)
    add_hand_over_policy(verbs)
    add_install_check(verbs)
    add_changing_verbs(verbs)
    add_prune(verbs)
    add_publishing_verbs(verbs)
    add_status(verbs)
    add_bisect(verbs)
    add_working_verbs(verbs)
    add_farming_verbs(verbs)
    add_workflow_verbs(verbs)
