"""Which source is meant, of the answers that git gives; real repositories are in integration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.errors import CommandError, ConfigError, SourceError
from pipeline.model.configs import Channel, GitSource, InterpreterConfig
from pipeline.model.records import Resolved, Revision
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Selection
from pipeline.source.resolve import git_repository, local_revision, resolve, source_directory
from tests.factories import changed, make_config
from tests.fakes import EPOCH, Answer, World, make_world, replace_text, write_text

COMMIT: Final = "194f9f44b50552d75484d67cda6e2b36607dee0c"
OTHER: Final = "0" * 40
URL: Final = "https://git.example/pypy.git"
TAG: Final = "refs/tags/release-pypy3.11-v7.3.23"
BRANCH: Final = "refs/heads/py3.11"
VERSIONS: Final = 'CPYTHON_VERSION = (3, 11, 15, "final", 0)\nPYPY_VERSION = {}\n'
FINAL: Final = VERSIONS.format('(7, 3, 23, "final", 0)')
CANDIDATE: Final = VERSIONS.format('(7, 3, 23, "candidate", 2)')
ALPHA: Final = VERSIONS.format('(8, 0, 0, "alpha", 0)')


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def pypy(**source: Any) -> InterpreterConfig:
    """Return PyPy for Python 3.11 as shipped, from a repository of the test's."""
    interpreter = make_config().interpreters["pypy3.11"]
    fields = {"repository": URL, "commits": {"7.3.23": COMMIT, "7.3.23rc2": COMMIT}, **source}
    return changed(
        interpreter, interpreter_version="7.3.23", source=changed(interpreter.source, **fields)
    )


def expect_git(world: World, refs: Mapping[str, str], text: str = FINAL) -> None:
    """Expect git to know *refs* of the remote, and one commit whose version file is *text*."""

    def tell(argv: tuple[str, ...]) -> bytes:
        return "".join(f"{refs[name]}\t{name}\n" for name in argv if name in refs).encode()

    answers = {
        "init": Answer(),
        "fetch": Answer(),
        "ls-remote": Answer(effect=tell),
        "cat-file": Answer(stdout=text),
        "show": Answer(stdout=f"{EPOCH}\n"),
        "rev-list": Answer(stdout="87671\n"),
        "update-ref": Answer(),
    }
    for word, answer in answers.items():
        world.process.expect("git", word, answer=answer)


def expect_cached(world: World, interpreter: InterpreterConfig, text: str = FINAL) -> None:
    """Expect git to have the commit already; the remote is not there."""
    assert isinstance(interpreter.source, GitSource)
    git_repository(world.ctx, interpreter.source).directory.mkdir(parents=True)
    expect_git(world, {}, text)
    world.process.expect("git", "rev-parse", answer=Answer(stdout=f"{COMMIT}\n"))
    gone = Answer(status=128, stderr="fatal: unable to access")
    for word in ("ls-remote", "fetch"):
        world.process.expect("git", word, answer=gone)


def released(world: World, interpreter: InterpreterConfig, version: str | None = None) -> Resolved:
    parsed = None if version is None else InterpreterVersion.parse(version)
    return resolve(world.ctx, interpreter, Selection(channel="release", version=parsed))


def nightly(
    world: World,
    interpreter: InterpreterConfig,
    source: Path | None = None,
    version: str | None = None,
) -> Resolved:
    selection = Selection(
        channel="nightly",
        source=None if source is None else str(source),
        version=None if version is None else InterpreterVersion.parse(version),
    )
    return resolve(world.ctx, interpreter, selection)


# --- directories of this repository ---------------------------------------------------------


def test_a_directory_is_of_the_configured_date_and_versions(world: World) -> None:
    resolved = released(world, world.ctx.config.interpreters["toy"])

    revision = resolved.revision
    assert (revision.kind, revision.number, revision.epoch) == ("directory", 20260101, EPOCH)
    assert (str(resolved.interpreter_version), resolved.language_version) == ("1.2.3", "1.2")


def test_a_directory_s_revision_changes_with_its_files(world: World) -> None:
    toy = world.ctx.config.interpreters["toy"]
    before = released(world, toy).revision
    replace_text(world.ctx.root / "translation_configs" / "toy" / "target.py", "main", "other")

    assert released(world, toy).revision.revision != before.revision


def test_a_directory_is_the_version_that_is_asked_for(world: World) -> None:
    resolved = released(world, world.ctx.config.interpreters["toy"], "2.0.0rc1")

    assert str(resolved.interpreter_version) == "2.0.0rc1"


def test_a_nightly_of_a_directory_is_the_version_that_is_asked_for(world: World) -> None:
    resolved = nightly(world, world.ctx.config.interpreters["toy"], version="2.0.0rc1")

    assert str(resolved.interpreter_version) == "2.0.0rc1"


def test_a_directory_is_below_the_configuration(world: World) -> None:
    source = world.ctx.config.interpreters["toy"].source
    assert source.kind == "directory"

    assert source_directory(world.ctx, source) == world.ctx.root / "translation_configs" / "toy"


def test_another_source_for_what_is_a_directory_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"toy\.toml: its source is a directory already"):
        nightly(world, world.ctx.config.interpreters["toy"], tmp_path)


# --- releases -------------------------------------------------------------------------------


def test_a_release_is_the_pinned_commit_of_its_tag(world: World) -> None:
    expect_git(world, {TAG: COMMIT})

    resolved = released(world, pypy())

    assert resolved == Resolved(
        revision=Revision(
            kind="git",
            revision=COMMIT,
            number=None,
            epoch=EPOCH,
            branch="release-pypy3.11-v7.x",
            tag="release-pypy3.11-v7.3.23",
        ),
        interpreter_version=InterpreterVersion.parse("7.3.23"),
        language_version="3.11.15",
    )
    assert world.process.ran("git", "fetch", "--depth=1", URL) == 1


def test_an_annotated_tag_is_the_commit_that_it_stands_for(world: World) -> None:
    expect_git(world, {TAG: OTHER, f"{TAG}^{{}}": COMMIT})

    assert released(world, pypy()).revision.revision == COMMIT


def test_a_candidate_is_made_of_that_candidate_s_source(world: World) -> None:
    expect_git(world, {f"{TAG}rc2": COMMIT}, CANDIDATE)

    resolved = released(world, pypy(), "7.3.23rc2")

    assert str(resolved.interpreter_version) == "7.3.23rc2"
    assert resolved.revision.tag == "release-pypy3.11-v7.3.23rc2"


@pytest.mark.parametrize(
    ("version", "ref", "text", "found"),
    [
        pytest.param("7.3.23", TAG, CANDIDATE, "7.3.23rc2", id="final of a candidate"),
        pytest.param("7.3.23rc2", f"{TAG}rc2", FINAL, "7.3.23", id="candidate of a final"),
        pytest.param("7.3.23", TAG, ALPHA, "8.0.0a0", id="final of an alpha"),
    ],
)
def test_a_source_of_another_version_is_not_released(
    version: str, ref: str, text: str, found: str, world: World
) -> None:
    expect_git(world, {ref: COMMIT}, text)

    with pytest.raises(SourceError) as caught:
        released(world, pypy(), version)

    message = str(caught.value)
    assert f"its source says it is {found}, and {version} was asked for" in message


def test_a_source_of_another_language_is_refused(world: World) -> None:
    expect_git(world, {TAG: COMMIT}, FINAL.replace("(3, 11, 15", "(3, 1, 1"))

    with pytest.raises(SourceError, match=r"language version 3\.1\.1, but pypy3\.11\.toml says"):
        released(world, pypy())


def test_a_language_version_may_be_configured_in_full(world: World) -> None:
    expect_git(world, {TAG: COMMIT})

    resolved = released(world, changed(pypy(), language_version="3.11.15"))

    assert resolved.language_version == "3.11.15"


def test_a_version_that_is_not_pinned_is_refused_with_the_line_to_add(world: World) -> None:
    expect_git(world, {TAG: COMMIT})

    with pytest.raises(SourceError) as caught:
        released(world, pypy(commits={}))

    message = str(caught.value)
    assert message.startswith("pypy3.11.toml: key source.commits has no 7.3.23")
    assert message.endswith(f'"7.3.23" = "{COMMIT}"')
    assert world.process.ran("git", "fetch") == 0


def test_a_tag_that_moved_is_refused_before_anything_is_fetched(world: World) -> None:
    expect_git(world, {TAG: OTHER})

    with pytest.raises(SourceError) as caught:
        released(world, pypy())

    message = str(caught.value)
    assert f"is commit {OTHER}, but source.commits pins {COMMIT}" in message
    assert "Tags do not move" in message
    assert world.process.ran("git", "fetch") == 0


def test_a_commit_that_is_here_is_released_without_the_remote(world: World) -> None:
    interpreter = pypy()
    expect_cached(world, interpreter)

    resolved = released(world, interpreter)

    assert resolved.revision.revision == COMMIT
    assert world.process.ran("git", "ls-remote") == 0


def test_a_commit_that_a_nightly_fetched_is_not_released_by_a_tag_of_another(
    world: World,
) -> None:
    """A nightly asks for no tag, so that the commit is here says nothing about its tag."""
    interpreter = pypy()
    expect_cached(world, interpreter)
    expect_git(world, {TAG: OTHER})
    world.process.expect("git", "rev-parse", answer=Answer())

    with pytest.raises(SourceError, match="Tags do not move"):
        released(world, interpreter)
    assert world.process.ran("git", "update-ref") == 0


@pytest.mark.parametrize(
    ("refs", "expected"),
    [
        pytest.param({}, rf"{URL}: has no {TAG}\. Check source\.branch", id="no such tag"),
        pytest.param({TAG: "not a commit"}, rf"{URL}: has no {TAG}", id="no commit"),
    ],
)
def test_a_tag_that_is_not_there_is_named(
    refs: Mapping[str, str], expected: str, world: World
) -> None:
    expect_git(world, refs)

    with pytest.raises(SourceError, match=expected):
        released(world, pypy())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ls-remote", rf"{URL}: cannot be asked for {TAG}: "),
        ("fetch", rf"{URL}: does not give commit {COMMIT}: "),
    ],
)
def test_a_remote_that_fails_is_named_with_what_git_said(
    word: str, expected: str, world: World
) -> None:
    expect_git(world, {TAG: COMMIT})
    world.process.expect("git", word, answer=Answer(status=128, stderr="fatal: no route to host"))

    with pytest.raises(SourceError, match=expected) as caught:
        released(world, pypy())

    assert "fatal: no route to host" in str(caught.value)
    assert isinstance(caught.value.__cause__, CommandError)


def test_a_commit_without_a_version_file_is_refused(world: World) -> None:
    expect_git(world, {TAG: COMMIT})
    world.process.expect("git", "cat-file", answer=Answer(status=128, stderr="fatal: path"))

    with pytest.raises(SourceError, match=rf"commit {COMMIT} has no file pypy/module/sys/version"):
        released(world, pypy())


def test_git_asks_nobody_for_a_password(world: World) -> None:
    expect_git(world, {TAG: COMMIT})

    released(world, pypy())

    assert {call.environment["GIT_TERMINAL_PROMPT"] for call in world.process.calls} == {"0"}


def test_a_release_of_a_local_source_is_refused(world: World, tmp_path: Path) -> None:
    selection = Selection(channel="release", source=str(tmp_path))

    with pytest.raises(SourceError, match="--source is for nightlies only"):
        resolve(world.ctx, pypy(), selection)


# --- nightlies ------------------------------------------------------------------------------


def test_a_nightly_is_the_branch_as_it_is_now_numbered_by_its_history(world: World) -> None:
    expect_git(world, {BRANCH: COMMIT}, ALPHA)

    resolved = nightly(world, pypy())

    assert resolved.revision == Revision(
        kind="git", revision=COMMIT, number=187671, epoch=EPOCH, branch="py3.11"
    )
    assert str(resolved.interpreter_version) == "8.0.0a0"


def test_a_nightly_s_commit_that_is_here_is_not_fetched_again(world: World) -> None:
    interpreter = pypy()
    expect_cached(world, interpreter, ALPHA)
    known = Answer(stdout=f"{COMMIT}\t{BRANCH}\n")
    world.process.expect("git", "ls-remote", answer=known)
    world.process.expect("git", "fetch", "--filter=tree:0")

    resolved = nightly(world, interpreter)

    assert resolved.revision.number == 187671
    assert world.process.ran("git", "fetch", "--depth=1") == 0


VERSION_GIVEN: Final = (
    "command line: --interpreter-version 7.3.23: this source says itself which version it is. "
    "Leave the option out."
)


def test_a_version_for_a_nightly_of_a_branch_is_refused(world: World) -> None:
    with pytest.raises(ConfigError) as caught:
        nightly(world, pypy(), version="7.3.23")

    assert str(caught.value) == VERSION_GIVEN
    assert world.process.calls == []


@pytest.mark.parametrize("channel", ["release", "nightly"])
def test_a_version_for_a_local_source_is_refused(
    channel: Channel, world: World, tmp_path: Path
) -> None:
    version = InterpreterVersion.parse("7.3.23")
    selection = Selection(channel=channel, source=str(tmp_path), version=version)

    with pytest.raises(ConfigError) as caught:
        resolve(world.ctx, pypy(), selection)

    assert str(caught.value) == VERSION_GIVEN


def test_a_history_that_the_remote_does_not_give_is_refused(world: World) -> None:
    expect_git(world, {BRANCH: COMMIT}, ALPHA)
    gone = Answer(status=128, stderr="fatal: the remote end hung up")
    world.process.expect("git", "fetch", "--filter=tree:0", answer=gone)

    with pytest.raises(SourceError, match=f"does not give the history of commit {COMMIT}"):
        nightly(world, pypy())


def test_the_history_is_kept_apart_from_the_commits(world: World) -> None:
    """A repository that once fetched without history counts nothing."""
    expect_git(world, {BRANCH: COMMIT}, ALPHA)

    nightly(world, pypy())

    made = [Path(call.argv[-1]).name for call in world.process.calls if "init" in call.argv]
    assert len(set(made)) == 2
    assert made[1] == f"{Path(made[0]).stem}-history"


def test_each_repository_has_its_own_cache(world: World) -> None:
    sources = [pypy().source, pypy(repository="https://git.example/other.git").source]

    caches = {
        git_repository(world.ctx, source).directory
        for source in sources
        if isinstance(source, GitSource)
    }

    assert len(caches) == 2
    assert {cache.parent for cache in caches} == {world.ctx.work.path("cache", "git")}


# --- local directories ----------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A source without git."""
    directory = tmp_path / "pypy"
    write_text(directory / "pypy" / "module" / "sys" / "version.py", ALPHA)
    os.utime(directory / "pypy" / "module" / "sys" / "version.py", (EPOCH, EPOCH))
    return directory


def test_a_directory_without_git_is_numbered_by_its_newest_file(world: World, plain: Path) -> None:
    write_text(plain / "older.py", "")
    os.utime(plain / "older.py", (EPOCH - 86400, EPOCH - 86400))

    revision = nightly(world, pypy(), plain).revision

    assert (revision.kind, revision.number, revision.epoch) == ("checkout", 20260101, EPOCH)
    assert (revision.branch, revision.dirty) == (None, True)


def test_versions_of_a_local_source_are_read_from_its_files(world: World, plain: Path) -> None:
    resolved = nightly(world, pypy(), plain)

    assert (str(resolved.interpreter_version), resolved.language_version) == ("8.0.0a0", "3.11.15")


def test_a_local_source_of_another_language_is_refused(world: World, plain: Path) -> None:
    replace_text(plain / "pypy" / "module" / "sys" / "version.py", "(3, 11, 15", "(2, 7, 18")

    with pytest.raises(SourceError, match=r"is for language version 2\.7\.18"):
        nightly(world, pypy(), plain)


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "not text"])
def test_a_local_source_without_a_version_is_refused(
    content: bytes | None, world: World, plain: Path
) -> None:
    write_text(plain / "other.py", "")
    path = plain / "pypy" / "module" / "sys" / "version.py"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SourceError, match=rf"{path}: cannot be read .*; is .* a source of PyPy\?"):
        nightly(world, pypy(), plain)


def test_an_empty_local_source_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source files"):
        nightly(world, pypy(), tmp_path / "nothing")


@pytest.fixture
def checkout(world: World, plain: Path) -> Path:
    """A clean checkout of the branch."""
    (plain / ".git").mkdir()
    answers = {
        "HEAD": Answer(stdout=f"{COMMIT}\n"),
        "--is-shallow-repository": Answer(stdout="false\n"),
        "ls-files": Answer(stdout="pypy/module/sys/version.py\0"),
        "status": Answer(),
        "rev-list": Answer(stdout="87671\n"),
        "show": Answer(stdout=f"{EPOCH}\n"),
        "symbolic-ref": Answer(stdout="my-branch\n"),
    }
    for word, answer in answers.items():
        world.process.expect("git", word, answer=answer)
    return plain


def test_a_clean_checkout_is_its_commit(world: World, checkout: Path) -> None:
    assert local_revision(world.ctx, checkout) == Revision(
        kind="checkout", revision=COMMIT, number=187671, epoch=EPOCH, branch="my-branch"
    )


def test_a_changed_checkout_is_the_digest_of_its_files(world: World, checkout: Path) -> None:
    world.process.expect("git", "status", answer=Answer(stdout=" M pypy/module/sys/version.py\n"))
    before = local_revision(world.ctx, checkout)
    write_text(checkout / "pypy" / "module" / "sys" / "version.py", FINAL)

    after = local_revision(world.ctx, checkout)

    assert (before.dirty, after.dirty) == (True, True)
    assert (len(before.revision), len(after.revision)) == (64, 64)
    assert after.revision != before.revision
    assert after.number == 187671


def test_a_checkout_without_a_branch_has_none(world: World, checkout: Path) -> None:
    world.process.expect("git", "symbolic-ref", answer=Answer(status=1))

    assert local_revision(world.ctx, checkout).branch is None


def test_a_checkout_without_history_is_refused_with_a_remedy(world: World, checkout: Path) -> None:
    shallow = Answer(stdout="true\n")
    world.process.expect("git", "--is-shallow-repository", answer=shallow)

    with pytest.raises(SourceError, match=r"has no history\. Run: git fetch --unshallow"):
        local_revision(world.ctx, checkout)
