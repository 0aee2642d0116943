"""A tap in a real git repository: what is written, what is refused, who is faster.

The store is served on this machine, so that what a formula names is fetched as its users do it.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.effects.git import Branch, Commit, TreeFile
from pipeline.errors import ConflictError, FormulaError, TapError
from pipeline.model.ledger import Unyanked, Yanked
from tests.factories import NOON, changed, later
from tests.integration.taps import Tap, make_tap

FORMULA = "Formula/demo.rb"


@pytest.fixture(autouse=True)
def git_without_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own git may sign commits or rewrite addresses."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


@pytest.fixture
def tap(tmp_path: Path) -> Tap:
    """An empty store and an empty tap."""
    return make_tap(tmp_path)


def push(tap: Tap, path: str, text: str) -> None:
    """Push a file as somebody else does it."""
    branch = Branch(
        tap.ctx.process, tap.config.repository, "main", tap.ctx.root / "somebody else.git"
    )
    said = Commit("somebody else", "Some Body <body@demo.test>", NOON)
    branch.push(branch.commit(branch.head(), {path: TreeFile(text.encode())}, said))


def test_an_empty_repository_gets_the_formula_in_one_commit(tap: Tap) -> None:
    release = tap.release("1.0.0")

    told = tap.write(release)

    assert told == [f"{tap.config.repository} (main): {FORMULA}"]
    assert tap.files() == [FORMULA]
    said = tap.git("log", "--format=%s|%an <%ae>|%cn|%aI|%cI", "main").strip()
    assert said == (
        "demo 1.0.0|Releaser <releaser@demo.test>|Releaser|"
        "2026-11-21T12:01:00+00:00|2026-11-21T12:01:00+00:00"
    )


def test_what_is_right_makes_no_commit(tap: Tap) -> None:
    release = tap.release("1.0.0")
    tap.write(release)
    before = tap.git("rev-parse", "main")

    assert tap.write(release) == []
    assert tap.git("rev-parse", "main") == before


def test_two_who_write_the_same_make_the_same_commit(tap: Tap, tmp_path: Path) -> None:
    """Whatever the machine, the time and the user's own git say."""
    other = make_tap(tmp_path / "other")

    tap.write(tap.release("1.0.0"))
    other.write(other.release("1.0.0"))

    assert tap.git("rev-parse", "main") == other.git("rev-parse", "main")


def test_what_is_stale_is_told_and_not_written(tap: Tap) -> None:
    old, new = tap.release("1.0.0"), tap.release("1.0.1")
    tap.write(old)

    assert tap.stale(old) == []
    assert tap.stale(old, new) == [f"{tap.config.repository} (main): {FORMULA}"]
    assert "demo-v1.0.0" in tap.formula()


def test_a_formula_with_an_address_that_does_not_answer_is_refused(tap: Tap) -> None:
    """Also if only users of another system would see it."""
    old, new = tap.release("1.0.0"), tap.release("1.0.1", "macos-arm64")
    tap.write(old)
    before = tap.git("rev-parse", "main")

    with pytest.raises(FormulaError, match=r"formula demo: .*demo-v1\.0\.1-macos_arm64\.tar\.gz"):
        tap.write(old, new)

    assert tap.git("rev-parse", "main") == before


def test_a_yanked_release_goes_even_if_the_one_before_is_not_to_be_had(tap: Tap) -> None:
    old, new = tap.release("1.0.0"), tap.release("1.0.1")
    tap.write(old, new)
    for archive in tap.site_root.rglob("demo-v1.0.0-*.tar.gz"):
        archive.unlink()

    with pytest.raises(FormulaError, match=r"formula demo: .*demo-v1\.0\.0-linux64\.tar\.gz"):
        tap.write(old, new, later(Yanked, new))

    assert tap.files() == []
    assert tap.git("log", "-1", "--format=%s", "main").strip() == "remove demo"


def test_a_formula_with_an_address_of_other_bytes_is_refused(tap: Tap) -> None:
    release = tap.release("1.0.0")
    (archive,) = tap.site_root.rglob("*.tar.gz")
    data = archive.read_bytes()
    archive.write_bytes(bytes([data[0], data[1] ^ 1]) + data[2:])

    with pytest.raises(FormulaError, match=r"demo-v1\.0\.0-linux64\.tar\.gz: readers get"):
        tap.write(release)

    assert tap.git("for-each-ref") == ""


def test_a_yank_brings_the_formula_before_back_and_the_last_one_takes_it_away(tap: Tap) -> None:
    old, new = tap.release("1.0.0"), tap.release("1.0.1")
    tap.write(old, new)
    newest = tap.formula()

    tap.write(old, new, later(Yanked, new))
    assert "demo-v1.0.0" in tap.formula()
    assert "demo-v1.0.1" not in tap.formula()
    tap.write(old, new, later(Yanked, new), later(Yanked, old))
    assert tap.files() == []
    tap.write(old, new, later(Yanked, new), later(Yanked, old), later(Unyanked, new))
    assert tap.formula() == newest
    assert tap.git("log", "--format=%s", "main").splitlines()[:2] == ["demo 1.0.1", "remove demo"]


def test_what_others_wrote_stays(tap: Tap) -> None:
    push(tap, "README.md", "A tap.\n")
    push(tap, "Formula/other.rb", "class Other < Formula\nend\n")

    tap.write(tap.release("1.0.0"))

    assert tap.files() == [FORMULA, "Formula/other.rb", "README.md"]


def test_a_formula_of_others_is_not_replaced(tap: Tap) -> None:
    push(tap, FORMULA, "class Demo < Formula\nend\n")

    with pytest.raises(TapError, match=r"Formula/demo\.rb is there, but was not written by"):
        tap.write(tap.release("1.0.0"))


def test_who_was_faster_stays_and_the_formula_comes_on_top(
    tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody pushes between our look at the branch and our push, twice."""
    release, pushed = tap.release("1.0.0"), Branch.push
    others = ["first", "second"]

    def push_late(branch: Branch, commit: str) -> None:
        if others:
            name = others.pop(0)
            with monkeypatch.context() as plain:
                plain.setattr(Branch, "push", pushed)
                push(tap, name, "faster\n")
        pushed(branch, commit)

    monkeypatch.setattr(Branch, "push", push_late)
    tap.write(release)

    assert tap.files() == [FORMULA, "first", "second"]
    assert len(tap.git("log", "--format=%h", "main").splitlines()) == 3


def test_where_others_are_always_faster_it_gives_up(
    tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, pushed = tap.release("1.0.0"), Branch.push
    monkeypatch.setattr("pipeline.publish.tap.ATTEMPTS", 2)

    def push_late(branch: Branch, commit: str) -> None:
        with monkeypatch.context() as plain:
            plain.setattr(Branch, "push", pushed)
            push(tap, commit, "faster\n")
        pushed(branch, commit)

    monkeypatch.setattr(Branch, "push", push_late)

    with pytest.raises(ConflictError, match="changed by others all the time"):
        tap.write(release)


def test_four_at_once_leave_one_history(tmp_path: Path) -> None:
    """Each from a machine of its own; all of it is there once, in one commit."""
    taps = [make_tap(tmp_path / str(number)) for number in range(4)]
    first = taps[0]
    release, *_ = [tap.release("1.0.0") for tap in taps]
    shared = [changed(tap.config, repository=first.config.repository) for tap in taps]

    def write(number: int) -> list[str]:
        tap = taps[number]
        return Tap(
            ctx=tap.ctx, site=tap.site, config=shared[number], repository=first.repository
        ).write(release)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert first.git("log", "--format=%s", "main").splitlines() == ["demo 1.0.0"]
    assert first.files() == [FORMULA]


def test_a_push_whose_answer_is_lost_is_found(tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = Branch.push

    def push_and_lose(branch: Branch, commit: str) -> None:
        pushed(branch, commit)
        msg = "connection lost"
        raise TapError(msg)

    monkeypatch.setattr(Branch, "push", push_and_lose)

    assert tap.write(tap.release("1.0.0")) != []
    assert tap.files() == [FORMULA]


def test_a_repository_that_refuses_is_named(tap: Tap) -> None:
    hook = tap.repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)

    with pytest.raises(TapError, match=r"(?s)push of branch main failed.*protected branch"):
        tap.write(tap.release("1.0.0"))


def test_a_repository_that_is_not_there_is_named(tap: Tap) -> None:
    release = tap.release("1.0.0")
    tap.repository.rename(tap.repository.with_name("moved"))

    with pytest.raises(TapError, match=r"tap\.git: ls-remote of branch main failed"):
        tap.write(release)


def test_an_alias_is_a_link_in_the_repository_too(tap: Tap) -> None:
    """As a clone of the tap has it."""
    interpreter = tap.ctx.config.interpreters["demo"]
    assert interpreter.homebrew is not None
    named = changed(interpreter, homebrew=changed(interpreter.homebrew, aliases=("demo@1.0",)))
    config = changed(tap.ctx.config, interpreters={"demo": named})
    object.__setattr__(tap.ctx, "config", config)

    tap.write(tap.release("1.0.0"))

    clone = tap.ctx.root / "clone"
    subprocess.run(["git", "clone", "-q", tap.config.repository, str(clone)], check=True)
    assert (clone / "Aliases/demo@1.0").readlink() == Path("../Formula/demo.rb")
    assert (clone / "Aliases/demo@1.0").read_text() == (clone / FORMULA).read_text()
