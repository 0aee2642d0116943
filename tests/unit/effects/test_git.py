"""How git is asked; what it answers is tried with git itself in integration."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.effects.git import Checkout, Repository
from pipeline.errors import CommandError, MissingToolError, SourceError
from tests.fakes import Answer, FakeProcess

COMMIT: Final = "194f9f44b50552d75484d67cda6e2b36607dee0c"
URL: Final = "https://git.example/pypy.git"


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def repository(process: FakeProcess, tmp_path: Path) -> Repository:
    return Repository(process=process, url=URL, directory=tmp_path / "cache" / "pypy.git")


def test_a_repository_that_is_not_there_has_no_commit_and_git_is_not_asked(
    repository: Repository, process: FakeProcess
) -> None:
    assert repository.has(COMMIT) is False
    assert process.calls == []


@pytest.mark.parametrize(("status", "has"), [(0, True), (1, False)])
def test_a_commit_is_here_if_its_fetch_was_finished(
    status: int, repository: Repository, process: FakeProcess, *, has: bool
) -> None:
    repository.directory.mkdir(parents=True)
    process.expect("git", f"refs/pipeline/{COMMIT}", answer=Answer(status=status))

    assert repository.has(COMMIT) is has


def test_only_the_commit_is_fetched_without_history_and_tags(
    repository: Repository, process: FakeProcess
) -> None:
    process.expect("git", "init")
    process.expect("git", "fetch")

    repository.fetch(COMMIT)

    assert [call.argv[1] for call in process.calls] == ["init", "fetch"]
    fetch = process.calls[1].argv
    assert fetch[-2:] == (URL, f"+{COMMIT}:refs/pipeline/{COMMIT}")
    assert {"--depth=1", "--no-tags", "--no-write-fetch-head"} <= set(fetch)


def test_a_repository_is_made_once(repository: Repository, process: FakeProcess) -> None:
    def init(argv: tuple[str, ...]) -> None:
        Path(argv[-1]).mkdir()
        (Path(argv[-1]) / "HEAD").write_text("ref: refs/heads/main\n")

    process.expect("git", "init", answer=Answer(effect=init))
    process.expect("git", "fetch")

    repository.fetch(COMMIT)
    repository.fetch(COMMIT)

    assert process.ran("git", "init") == 1
    assert process.ran("git", "fetch", f"--git-dir={repository.directory}") == 2


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(f"{COMMIT}\trefs/heads/py3.11\n", COMMIT, id="branch"),
        pytest.param(
            f"{'0' * 40}\trefs/heads/py3.11\n{COMMIT}\trefs/heads/py3.11^{{}}\n",
            COMMIT,
            id="annotated",
        ),
        pytest.param(
            f"{COMMIT}\trefs/heads/py3.11\n{'0' * 40}\trefs/heads/a/refs/heads/py3.11\n",
            COMMIT,
            id="another that ends like it",
        ),
    ],
)
def test_a_remote_s_commit_is_that_of_the_whole_name(
    lines: str, expected: str, repository: Repository, process: FakeProcess
) -> None:
    process.expect("git", "ls-remote", answer=Answer(stdout=lines))

    assert repository.remote_commit("refs/heads/py3.11") == expected


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("", id="nothing"),
        pytest.param(f"{COMMIT}\trefs/heads/a/refs/heads/py3.11\n", id="another"),
        pytest.param(f"{'a' * 64}\trefs/heads/py3.11\n", id="another kind of hash"),
    ],
)
def test_a_name_that_the_remote_does_not_have_is_refused(
    lines: str, repository: Repository, process: FakeProcess
) -> None:
    process.expect("git", "ls-remote", answer=Answer(stdout=lines))

    with pytest.raises(SourceError, match=rf"{URL}: has no refs/heads/py3\.11"):
        repository.remote_commit("refs/heads/py3.11")


def test_a_missing_git_is_no_fault_of_the_remote(
    repository: Repository, process: FakeProcess
) -> None:
    process.missing.add("git")

    with pytest.raises(MissingToolError, match="git"):
        repository.remote_commit("refs/heads/py3.11")


def test_a_history_that_the_remote_does_not_give_is_its_fault(
    repository: Repository, process: FakeProcess
) -> None:
    process.expect("git", "init")
    process.expect("git", "fetch", answer=Answer(status=128, stderr="fatal: no route to host"))

    with pytest.raises(SourceError) as caught:
        repository.count_ancestors(COMMIT)

    message = str(caught.value)
    assert message.startswith(f"{URL}: does not give the history of commit {COMMIT}: ")
    assert "fatal: no route to host" in message
    assert isinstance(caught.value.__cause__, CommandError)


HOOKS: Final = {
    *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
}


def test_git_does_not_see_which_repository_s_hook_we_may_be_in(
    repository: Repository, process: FakeProcess, tmp_path: Path
) -> None:
    process.expect("git", answer=Answer(stdout="1\n"))
    (tmp_path / ".git").mkdir()

    repository.fetch(COMMIT)
    repository.count_ancestors(COMMIT)
    repository.export(COMMIT, tmp_path / "source.tar")
    Checkout(process, tmp_path).head()

    assert process.ran("git", "init") == 2
    assert all(set(call.without) >= HOOKS for call in process.calls)


def test_an_export_that_fails_is_an_error(
    repository: Repository, process: FakeProcess, tmp_path: Path
) -> None:
    process.expect("git", "archive", answer=Answer(status=128, stderr="fatal: no such commit"))

    with pytest.raises(CommandError, match="no such commit"):
        repository.export(COMMIT, tmp_path / "source.tar")


def test_a_checkout_s_files_are_sorted_once_each_and_may_have_any_name(
    process: FakeProcess, tmp_path: Path
) -> None:
    named = b"z.py\0a b.py\0z.py\0caf\xe9.py\0"
    process.expect("git", "ls-files", answer=Answer(stdout=named))

    files = Checkout(process, tmp_path).files()

    assert files == ("a b.py", "caf\udce9.py", "z.py")


def test_a_directory_without_its_own_git_is_no_checkout_and_git_is_not_asked(
    process: FakeProcess, tmp_path: Path
) -> None:
    """It may lie in the work tree of another repository, which git would take."""
    assert Checkout(process, tmp_path).head() is None
    assert process.calls == []


def test_a_checkout_is_asked_of_its_own_repository(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    process.expect("git", "rev-parse", answer=Answer(stdout=f"{COMMIT}\n"))

    assert Checkout(process, tmp_path).head() == COMMIT
    assert process.ran("git", f"--git-dir={tmp_path}/.git", f"--work-tree={tmp_path}") == 1


def test_git_is_started_in_the_checkout(process: FakeProcess, tmp_path: Path) -> None:
    """Some commands tell only of the directory that they are started in."""
    process.expect("git", "ls-files")

    Checkout(process, tmp_path).files()

    assert [call.argv[:3] for call in process.calls] == [("git", "-C", str(tmp_path))]


ASKED: Final[dict[str, Callable[[Checkout], object]]] = {
    "show": Checkout.commit_time,
    "rev-list": Checkout.count_ancestors,
    "status": Checkout.is_dirty,
    "ls-files": Checkout.files,
}


@pytest.mark.parametrize(("word", "ask"), ASKED.items(), ids=ASKED)
def test_what_git_cannot_tell_of_a_checkout_is_an_error(
    word: str, ask: Callable[[Checkout], object], process: FakeProcess, tmp_path: Path
) -> None:
    process.expect("git", "rev-parse", answer=Answer(stdout="false\n"))
    process.expect("git", word, answer=Answer(status=128, stderr="fatal: index file corrupt"))

    with pytest.raises(CommandError, match="index file corrupt"):
        ask(Checkout(process, tmp_path))


def test_a_checkout_of_no_branch_has_none(process: FakeProcess, tmp_path: Path) -> None:
    process.expect("git", "symbolic-ref", answer=Answer(status=1))

    assert Checkout(process, tmp_path).branch() is None


def test_a_checkout_without_a_commit_has_no_head(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    process.expect("git", "rev-parse", answer=Answer(status=128, stderr="fatal: no revision"))

    assert Checkout(process, tmp_path).head() is None
