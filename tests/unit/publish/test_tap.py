"""How a tap must change: what is ours, what is not, and what stays."""

import pytest

from pipeline.effects.git import TreeFile
from pipeline.model.ledger import Event, Published, Yanked
from pipeline.publish.projections.homebrew import Formula, formulas
from pipeline.publish.tap import TapChange, change_without, tap_change, tap_files
from tests.factories import later, make_event, make_view

PYPY, ALIAS = "Formula/pypy3.11.rb", "Aliases/pypy@3.11"
FOREIGN = TreeFile(b"class Other < Formula\nend\n")


def wanted(*events: Event) -> tuple[Formula, ...]:
    return formulas(make_view(*events))


def change_to(*events: Event, there: dict[str, TreeFile]) -> TapChange:
    return tap_change(wanted(*events), ("pypy",), there)


def test_an_empty_tap_gets_formulas_and_links_to_them() -> None:
    change = change_to(make_event(), there={})

    assert set(change.files) == {PYPY, ALIAS, "Aliases/pypy3"}
    assert change.files[ALIAS] == TreeFile(b"../Formula/pypy3.11.rb", is_link=True)
    assert [formula.name for formula in change.formulas] == ["pypy3.11"]


def test_a_tap_that_is_right_stays() -> None:
    there = tap_files(wanted(make_event()))

    assert not change_to(make_event(), there=there)


def test_what_others_wrote_stays() -> None:
    there = {
        "Formula/other.rb": FOREIGN,
        "Aliases/another": TreeFile(b"../Formula/other.rb", is_link=True),
        "Aliases/README": TreeFile(b"../Formula/pypy3.11.rb"),
        "Formula/theirs.rb": TreeFile(b"# rpython-pipeline: elsewhere/theirs-v1\n"),
    }

    change = change_to(make_event(), there=there)

    assert not set(change.files) & set(there)


def test_of_a_yanked_release_nothing_is_left() -> None:
    bad = make_event()
    there = {**tap_files(wanted(bad)), "Formula/other.rb": FOREIGN}

    change = change_to(bad, later(Yanked, bad), there=there)

    assert change.files == {PYPY: None, ALIAS: None, "Aliases/pypy3": None}
    assert change.formulas == ()


def test_only_formulas_that_change_are_looked_at_again() -> None:
    old = (make_event(), make_event("pypy2.7", language_version="2.7.18"))
    there = tap_files(wanted(*old))

    change = change_to(*old, make_event(version="7.3.24"), there=there)

    assert set(change.files) == {PYPY}
    assert [formula.event.release for formula in change.formulas] == ["pypy3.11-v7.3.24"]


def test_an_alias_moves_to_a_newer_line() -> None:
    old = make_event()
    there = tap_files(wanted(old))

    change = change_to(old, make_event("pypy3.12", language_version="3.12.1"), there=there)

    assert change.files["Aliases/pypy3"] == TreeFile(b"../Formula/pypy3.12.rb", is_link=True)
    assert PYPY not in change.files


@pytest.mark.parametrize("path", [PYPY, ALIAS])
def test_a_name_that_somebody_else_has_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=path):
        change_to(make_event(), there={path: FOREIGN})


# --- formulas whose files readers do not get ------------------------------------------------


def offered(*events: Published) -> set[str]:
    """Return the releases that are offered, as formulas name them."""
    return {f"{event.product}/{event.release}" for event in events}


def test_a_formula_that_cannot_be_written_leaves_the_others_theirs() -> None:
    old = make_event()
    other = make_event("pypy2.7", language_version="2.7.18")
    there = tap_files(wanted(old, other))
    newer = make_event(version="7.3.24")
    change = change_to(old, other, newer, later(Yanked, other), there=there)

    partly = change_without(change, ["pypy3.11"], there, offered(old, newer))

    aliases = {"Aliases/pypy2", "Aliases/pypy@2.7"}
    assert partly.files == dict.fromkeys(["Formula/pypy2.7.rb", *aliases])
    assert partly.formulas == ()


def test_what_is_of_a_release_that_is_not_offered_goes_with_its_aliases() -> None:
    """A yanked release must not be installed because the one before cannot be had."""
    old, bad = make_event(), make_event(version="7.3.24")
    there = tap_files(wanted(old, bad))
    change = change_to(old, bad, later(Yanked, bad), there=there)
    assert set(change.files) == {PYPY}

    partly = change_without(change, ["pypy3.11"], there, offered(old))

    assert partly.files == {PYPY: None, ALIAS: None, "Aliases/pypy3": None}


def test_a_formula_that_never_was_there_gets_no_alias() -> None:
    change = change_to(make_event(), there={})

    assert not change_without(change, ["pypy3.11"], {}, offered(make_event()))


def test_an_alias_stays_where_the_formula_that_it_would_move_to_is_not_written() -> None:
    old, new = make_event(), make_event("pypy3.12", language_version="3.12.1")
    there = tap_files(wanted(old))
    change = change_to(old, new, there=there)
    assert "Aliases/pypy3" in change.files

    assert not change_without(change, ["pypy3.12"], there, offered(old, new))


def test_an_alias_of_a_formula_that_goes_does_not_stay() -> None:
    old, new = make_event(), make_event("pypy3.12", language_version="3.12.1")
    there = tap_files(wanted(old))
    change = change_to(old, new, later(Yanked, old), there=there)

    partly = change_without(change, ["pypy3.12"], there, offered(new))

    assert partly.files == {PYPY: None, ALIAS: None, "Aliases/pypy3": None}


def test_where_every_formula_can_be_written_the_change_stays() -> None:
    change = change_to(make_event(), there={})

    assert change_without(change, [], {}, offered(make_event())) == change
