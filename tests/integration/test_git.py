"""Real git on small repositories: which commit is meant, what of it is packed, what is refused."""

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.effects.files import sha256_of
from pipeline.effects.git import Checkout, Repository
from pipeline.effects.process import ProcessRunner
from pipeline.errors import CommandError, SourceError
from pipeline.model.configs import InterpreterConfig
from pipeline.model.records import Resolved, SourceTree
from pipeline.model.versions import InterpreterVersion
from pipeline.plan import Selection
from pipeline.source.resolve import git_repository, local_revision, resolve
from pipeline.source.runner import make_source
from tests.factories import changed, make_config, make_pypy_job
from tests.fakes import World, make_world, stage_output, write_text

VERSION_FILE: Final = "pypy/module/sys/version.py"
FINAL: Final = '(7, 3, 23, "final", 0)'
CANDIDATE: Final = '(7, 3, 23, "candidate", 1)'
ALPHA: Final = '(8, 0, 0, "alpha", 0)'
TAG: Final = "release-pypy3.11-v7.3.23"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration of git, to be written by a test."""
    path = tmp_path / "gitconfig"
    path.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    return path


@dataclass
class Upstream:
    """A work tree whose commits are a minute apart."""

    directory: Path
    commits: int = 0

    def git(self, *arguments: str) -> str:
        """Run git in the work tree."""
        moment = f"{1_779_753_600 + 60 * self.commits} +0200"
        done = subprocess.run(
            ["git", "-C", str(self.directory), *arguments],
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_CONFIG_SYSTEM": "/dev/null",
                **{f"GIT_{who}_NAME": "PyPy" for who in ("AUTHOR", "COMMITTER")},
                **{f"GIT_{who}_EMAIL": "pypy@pypy.test" for who in ("AUTHOR", "COMMITTER")},
                **{f"GIT_{who}_DATE": moment for who in ("AUTHOR", "COMMITTER")},
            },
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, version: str, **files: str) -> str:
        """Commit the source at *version* with *files*, and return the commit."""
        text = f'CPYTHON_VERSION = (3, 11, 15, "final", 0)\nPYPY_VERSION = {version}\n'
        for name, content in {VERSION_FILE: text, **files}.items():
            write_text(self.directory / name, content)
        self.commits += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message=number {self.commits}")
        return self.git("rev-parse", "HEAD")

    @property
    def url(self) -> str:
        """The address to fetch from."""
        return self.directory.as_uri()


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    """A repository with three commits on ``py3.11``, the last one released."""
    made = Upstream(tmp_path / "upstream")
    made.directory.mkdir()
    made.git("init", "--quiet", "--initial-branch=py3.11")
    for number in (1, 2):
        made.commit(ALPHA, README=f"number {number}\n")
    made.commit(FINAL, README="PyPy\n", **{"rpython/__main__.py": "main()\n"})
    (made.directory / "rpython" / "__main__.py").chmod(0o755)
    (made.directory / "link").symlink_to("README")
    made.commit(FINAL)
    made.git("tag", "--annotate", f"--message={TAG}", TAG)
    return made


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with real processes."""
    made = make_world(tmp_path / "project")
    return made.again(process=ProcessRunner())


def pypy(upstream: Upstream, **overrides: Any) -> InterpreterConfig:
    """Return PyPy from *upstream*, whose release is pinned."""
    interpreter = make_config().interpreters["pypy3.11"]
    commits = {"7.3.23": upstream.git("rev-parse", f"{TAG}^{{commit}}")}
    fields = {"repository": upstream.url, "branch": "py3.11", "commits": commits, **overrides}
    return changed(
        interpreter, interpreter_version="7.3.23", source=changed(interpreter.source, **fields)
    )


def released(world: World, interpreter: InterpreterConfig, version: str = "7.3.23") -> Resolved:
    selection = Selection(channel="release", version=InterpreterVersion.parse(version))
    return resolve(world.ctx, interpreter, selection)


def nightly(world: World, interpreter: InterpreterConfig, source: Path | None = None) -> Resolved:
    selection = Selection(channel="nightly", source=None if source is None else str(source))
    return resolve(world.ctx, interpreter, selection)


def cache(world: World, interpreter: InterpreterConfig) -> Repository:
    assert interpreter.source.kind == "git"
    return git_repository(world.ctx, interpreter.source)


def in_cache(world: World, interpreter: InterpreterConfig, *arguments: str) -> str:
    directory = cache(world, interpreter).directory
    done = subprocess.run(
        ["git", f"--git-dir={directory}", *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


# --- releases -------------------------------------------------------------------------------


def test_a_release_is_the_commit_of_its_annotated_tag(world: World, upstream: Upstream) -> None:
    commit = upstream.git("rev-parse", "HEAD")

    resolved = released(world, pypy(upstream))

    assert (resolved.revision.revision, resolved.revision.tag) == (commit, TAG)
    assert resolved.revision.epoch == 1_779_753_600 + 60 * 4
    assert (str(resolved.interpreter_version), resolved.language_version) == ("7.3.23", "3.11.15")


def test_a_release_may_have_a_light_tag(world: World, upstream: Upstream) -> None:
    commit = upstream.commit(CANDIDATE)
    upstream.git("tag", f"{TAG}rc1")
    interpreter = pypy(upstream, commits={"7.3.23rc1": commit})

    assert released(world, interpreter, "7.3.23rc1").revision.revision == commit


def test_a_release_is_fetched_without_its_history(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream)

    released(world, interpreter)

    assert in_cache(world, interpreter, "rev-list", "--all", "--count") == "1"
    assert in_cache(world, interpreter, "tag") == ""


def test_a_release_that_was_fetched_needs_no_remote(
    world: World, upstream: Upstream, tmp_path: Path
) -> None:
    interpreter = pypy(upstream)
    first = released(world, interpreter)
    upstream.directory.rename(tmp_path / "gone")

    assert released(world, interpreter) == first


def test_a_tag_that_moved_is_refused(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream)
    moved = upstream.commit(FINAL, README="another\n")
    upstream.git("tag", "--force", "--annotate", "--message=moved", TAG)

    with pytest.raises(SourceError, match=rf"tag {TAG} is commit {moved}, but source\.commits"):
        released(world, interpreter)

    assert not cache(world, interpreter).has(moved)


def test_a_version_that_is_not_pinned_is_refused_with_its_commit(
    world: World, upstream: Upstream
) -> None:
    commit = upstream.git("rev-parse", "HEAD")

    with pytest.raises(SourceError, match=rf'add: "7\.3\.23" = "{commit}"'):
        released(world, pypy(upstream, commits={}))


@pytest.mark.parametrize(
    ("version", "source", "found"),
    [("7.3.23", CANDIDATE, "7.3.23rc1"), ("7.3.23rc1", FINAL, "7.3.23")],
    ids=["final of a candidate", "candidate of a final"],
)
def test_a_release_is_of_the_version_that_its_source_says(
    version: str, source: str, found: str, world: World, upstream: Upstream
) -> None:
    commit = upstream.commit(source)
    tag = f"release-pypy3.11-v{version}"
    upstream.git("tag", "--force", "--annotate", "--message=wrong", tag)

    with pytest.raises(SourceError, match=f"its source says it is {found}, and {version} was"):
        released(world, pypy(upstream, commits={version: commit}), version)


def test_a_tag_that_the_remote_does_not_have_is_named(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream, commits={"7.3.24": "0" * 40})

    with pytest.raises(SourceError, match=r"has no refs/tags/release-pypy3\.11-v7\.3\.24"):
        released(world, interpreter, "7.3.24")


def test_a_remote_that_is_not_there_is_named(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream, repository="file:///nowhere/pypy.git")

    with pytest.raises(SourceError, match=r"file:///nowhere/pypy\.git: cannot be asked for"):
        released(world, interpreter)


def test_a_commit_that_the_remote_does_not_have_cannot_be_fetched(
    world: World, upstream: Upstream
) -> None:
    repository = cache(world, pypy(upstream))

    with pytest.raises(SourceError, match=f"does not give commit {'0' * 40}"):
        repository.fetch("0" * 40)

    assert not repository.has("0" * 40)


def test_a_history_that_the_remote_does_not_have_cannot_be_counted(
    world: World, upstream: Upstream
) -> None:
    repository = cache(world, pypy(upstream))

    with pytest.raises(SourceError, match=f"does not give the history of commit {'0' * 40}"):
        repository.count_ancestors("0" * 40)


def test_a_file_that_a_commit_does_not_have_is_named(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream, version_file="pypy/other.py")

    with pytest.raises(SourceError, match=r"has no file pypy/other\.py"):
        released(world, interpreter)


def test_a_mirror_is_git_s_own_instead_of(world: World, upstream: Upstream, config: Path) -> None:
    config.write_text(
        f'[url "{upstream.url}"]\n\tinsteadOf = https://git.example/pypy.git\n', encoding="utf-8"
    )

    resolved = released(world, pypy(upstream, repository="https://git.example/pypy.git"))

    assert resolved.revision.revision == upstream.git("rev-parse", "HEAD")


# --- nightlies ------------------------------------------------------------------------------


def test_a_nightly_is_the_branch_s_last_commit_numbered_by_its_ancestors(
    world: World, upstream: Upstream
) -> None:
    commit = upstream.commit(ALPHA)

    revision = nightly(world, pypy(upstream)).revision

    assert (revision.revision, revision.number) == (commit, 15)
    assert (revision.branch, revision.tag) == ("py3.11", None)


def test_merged_commits_are_ancestors_too(world: World, upstream: Upstream) -> None:
    upstream.git("checkout", "--quiet", "-b", "work")
    upstream.commit(ALPHA, work="1\n")
    upstream.git("checkout", "--quiet", "py3.11")
    upstream.git("merge", "--quiet", "--no-ff", "--message=merged", "work")

    assert nightly(world, pypy(upstream)).revision.number == 16


def test_the_next_nightly_has_a_higher_number(world: World, upstream: Upstream) -> None:
    first = nightly(world, pypy(upstream)).revision
    upstream.commit(ALPHA)

    second = nightly(world, pypy(upstream)).revision

    assert (first.number, second.number) == (14, 15)
    assert first.revision != second.revision


def test_a_nightly_after_the_release_of_the_same_commit_is_numbered(
    world: World, upstream: Upstream
) -> None:
    """The release was fetched without history, in which nothing can be counted."""
    interpreter = pypy(upstream)
    released(world, interpreter)

    assert nightly(world, interpreter).revision.number == 14


def test_a_branch_may_be_named_like_a_tag(world: World, upstream: Upstream) -> None:
    upstream.git("tag", "py3.11", "HEAD~2")

    revision = nightly(world, pypy(upstream)).revision

    assert revision.revision == upstream.git("rev-parse", "refs/heads/py3.11")


# --- local sources --------------------------------------------------------------------------


def test_a_clean_checkout_is_its_commit(world: World, upstream: Upstream) -> None:
    revision = local_revision(world.ctx, upstream.directory)

    assert revision.revision == upstream.git("rev-parse", "HEAD")
    assert (revision.number, revision.branch, revision.dirty) == (14, "py3.11", False)
    assert revision.epoch == 1_779_753_600 + 60 * 4


CHANGES: Final[dict[str, Callable[[Upstream], object]]] = {
    "changed file": lambda made: write_text(made.directory / "README", "changed\n"),
    "new file": lambda made: write_text(made.directory / "new.py", ""),
    "removed file": lambda made: (made.directory / "README").unlink(),
    "executable bit": lambda made: (made.directory / "README").chmod(0o755),
    "staged file": lambda made: made.git("rm", "--quiet", "--cached", "README"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_checkout_is_no_commit(
    change: Callable[[Upstream], object], world: World, upstream: Upstream
) -> None:
    change(upstream)

    revision = local_revision(world.ctx, upstream.directory)

    assert revision.dirty is True
    assert len(revision.revision) == 64
    assert revision.short.endswith("+")


def test_a_new_file_counts_whatever_a_person_wants_to_be_shown(
    world: World, upstream: Upstream, config: Path
) -> None:
    config.write_text("[status]\n\tshowUntrackedFiles = no\n", encoding="utf-8")
    write_text(upstream.directory / "new.py", "")

    assert local_revision(world.ctx, upstream.directory).dirty is True


def test_an_ignored_file_does_not_change_a_checkout(world: World, upstream: Upstream) -> None:
    upstream.commit(FINAL, **{".gitignore": "*.log\n"})
    write_text(upstream.directory / "make.log", "x")

    assert local_revision(world.ctx, upstream.directory).dirty is False
    assert "make.log" not in Checkout(world.ctx.process, upstream.directory).files()


def test_a_checkout_of_a_commit_has_no_branch(world: World, upstream: Upstream) -> None:
    upstream.git("checkout", "--quiet", "--detach")

    assert local_revision(world.ctx, upstream.directory).branch is None


def test_a_checkout_without_history_is_refused(
    world: World, upstream: Upstream, tmp_path: Path
) -> None:
    shallow = tmp_path / "shallow"
    upstream.git("clone", "--quiet", "--depth=1", upstream.url, str(shallow))

    with pytest.raises(SourceError, match=r"shallow: has no history\. Run: git fetch --unshallow"):
        local_revision(world.ctx, shallow)


def test_a_directory_without_git_is_the_digest_of_its_files(world: World, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    write_text(plain / VERSION_FILE, "")

    revision = local_revision(world.ctx, plain)

    assert (len(revision.revision), revision.dirty, revision.branch) == (64, True, None)


def test_a_directory_without_git_below_a_repository_is_no_checkout_of_it(
    world: World, upstream: Upstream
) -> None:
    upstream.commit(FINAL, **{".gitignore": "unpacked\n"})
    plain = upstream.directory / "unpacked"
    write_text(plain / VERSION_FILE, "")

    revision = local_revision(world.ctx, plain)

    assert (len(revision.revision), revision.dirty, revision.branch) == (64, True, None)


@pytest.fixture
def hook(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that git sets inside a hook of another repository."""
    other = tmp_path / "other"
    upstream.git("init", "--quiet", str(other))
    variables = {
        "GIT_DIR": other / ".git",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": other / ".git" / "objects",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("hook")
def test_a_checkout_is_not_mistaken_for_another_inside_a_hook(
    world: World, upstream: Upstream
) -> None:
    revision = local_revision(world.ctx, upstream.directory)

    assert revision.revision == upstream.git("rev-parse", "HEAD")
    assert (revision.branch, revision.dirty) == ("py3.11", False)


@pytest.mark.usefixtures("hook")
def test_a_release_is_found_inside_a_hook(world: World, upstream: Upstream) -> None:
    interpreter = pypy(upstream)

    assert released(world, interpreter).revision.revision == upstream.git("rev-parse", "HEAD")
    assert cache(world, interpreter).has(upstream.git("rev-parse", "HEAD"))


def test_a_linked_work_tree_is_a_checkout(world: World, upstream: Upstream, tmp_path: Path) -> None:
    """Its .git is a file that tells where the repository is."""
    linked = tmp_path / "linked"
    upstream.git("worktree", "add", "--quiet", "-b", "linked", str(linked))

    clean = local_revision(world.ctx, linked)
    write_text(linked / "new.py", "")
    changed_tree = local_revision(world.ctx, linked)

    assert (clean.revision, clean.branch) == (upstream.git("rev-parse", "HEAD"), "linked")
    assert (clean.dirty, changed_tree.dirty) == (False, True)


def test_it_does_not_matter_where_in_a_checkout_the_pipeline_is_started(
    world: World, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout(world.ctx.process, upstream.directory)
    expected = checkout.files()
    monkeypatch.chdir(upstream.directory / "rpython")

    assert checkout.files() == expected


def test_a_checkout_that_git_cannot_read_is_not_taken_for_a_clean_one(
    world: World, upstream: Upstream
) -> None:
    index = upstream.directory / ".git" / "index"
    index.write_bytes(index.read_bytes()[:20])

    with pytest.raises(CommandError, match="index file"):
        local_revision(world.ctx, upstream.directory)


def test_a_nightly_can_be_made_of_a_checkout(world: World, upstream: Upstream) -> None:
    upstream.commit(ALPHA)

    resolved = nightly(world, pypy(upstream), upstream.directory)

    assert resolved.revision.kind == "checkout"
    assert str(resolved.interpreter_version) == "8.0.0a0"


# --- what is packed -------------------------------------------------------------------------


def packed(
    world: World, interpreter: InterpreterConfig, resolved: Resolved, source: Path | None = None
) -> tuple[SourceTree, Path]:
    job = make_pypy_job(interpreter=interpreter, revision=resolved.revision)
    if source is not None:
        job = changed(job, source_directory=str(source), source_archive=None)
    with stage_output(world.ctx) as stage:
        record = make_source(world.ctx, job, stage)
    return record, stage.directory


def files_of(path: Path, top: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return {
            member.name.removeprefix(f"{top}/"): member
            for member in archive
            if member.name.startswith(f"{top}/") and not member.isdir()
        }


def test_a_release_packs_its_commit_and_the_source_archive(
    world: World, upstream: Upstream
) -> None:
    interpreter = pypy(upstream)
    resolved = released(world, interpreter)
    upstream.commit(ALPHA, later="x")

    record, directory = packed(world, interpreter, resolved)

    assert record.source_archive is not None
    name = record.source_archive.filename
    released_files = files_of(directory / name, "pypy3.11-v7.3.23-src")
    assert set(released_files) == {
        *(VERSION_FILE, "README", "link", "rpython/__main__.py", ".hg_archival.txt")
    }
    assert released_files["link"].linkname == "README"
    assert released_files["rpython/__main__.py"].mode == 0o755
    assert set(files_of(directory / "source.tar", "build/source")) == set(released_files)


def test_the_source_archive_has_the_same_bytes_wherever_it_is_made(
    upstream: Upstream, tmp_path: Path
) -> None:
    digests = set()
    for name in ("here", "there"):
        world = make_world(tmp_path / name).again(process=ProcessRunner())
        interpreter = pypy(upstream)
        record, directory = packed(world, interpreter, released(world, interpreter))
        assert record.source_archive is not None
        digests.add((record.sha256, sha256_of(directory / record.source_archive.filename)))

    assert len(digests) == 1


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        pytest.param("autocrlf = true", "", id="autocrlf"),
        pytest.param("eol = crlf", "* text=auto\n", id="eol"),
        pytest.param("", "* eol=crlf\n", id="attribute"),
        pytest.param("", "README export-ignore\n", id="left out"),
    ],
)
def test_a_person_s_settings_do_not_reach_the_source_archive(
    settings: str, attributes: str, world: World, upstream: Upstream, config: Path
) -> None:
    write_text(config.with_name("attributes"), attributes)
    config.write_text(
        f"[core]\n\t{settings}\n\tattributesFile = {config.with_name('attributes')}\n",
        encoding="utf-8",
    )
    interpreter = pypy(upstream)

    _, directory = packed(world, interpreter, released(world, interpreter))

    with tarfile.open(directory / "source.tar") as archive:
        content = archive.extractfile("build/source/README")
        assert content is not None
        assert content.read() == b"PyPy\n"


def test_a_checkout_is_packed_with_its_changes_and_without_what_is_ignored(
    world: World, upstream: Upstream
) -> None:
    upstream.commit(ALPHA, **{".gitignore": "*.log\n"})
    for name in ("new.py", "make.log"):
        write_text(upstream.directory / name, "x")
    (upstream.directory / "README").unlink()
    interpreter = pypy(upstream)
    resolved = nightly(world, interpreter, upstream.directory)

    record, directory = packed(world, interpreter, resolved, upstream.directory)

    assert record.source_archive is None
    assert set(files_of(directory / "source.tar", "build/source")) == {
        *(VERSION_FILE, "link", "new.py", "rpython/__main__.py"),
        *(".gitignore", ".hg_archival.txt"),
    }


def test_a_checkout_that_changes_after_it_was_resolved_is_refused(
    world: World, upstream: Upstream
) -> None:
    interpreter = pypy(upstream)
    resolved = nightly(world, interpreter, upstream.directory)
    write_text(upstream.directory / "README", "changed\n")

    with pytest.raises(SourceError, match="changed while it was packed"):
        packed(world, interpreter, resolved, upstream.directory)
