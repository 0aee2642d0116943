"""The port to git: revisions of remote repositories, and a branch of one that is written.

Both work on bare caches, so that neither the user's line endings nor hooks change a file.

URLs reach git as they are configured, so a mirror is git's own ``url.<base>.insteadOf``.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.errors import CommandError, SourceError, TapError

GIT: Final = Tool(program="git", purpose="fetch sources, write a tap", package="git")
FETCH_TIMEOUT: Final = 3600
ASK_TIMEOUT: Final = 120
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# A password prompt would wait for ever.
VARIABLES: Final[Mapping[str, str]] = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
KEPT_BRANCH: Final = "refs/pipeline/branch"
# The user's own configuration must not decide what a commit is.
NEUTRAL: Final = ("-c", "core.hooksPath=/dev/null", "-c", "i18n.commitEncoding=UTF-8")
FILE_MODE: Final = "100644"
LINK_MODE: Final = "120000"
# Set inside a hook, and they would turn git to that repository.
UNSET: Final = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_WORK_TREE",
)


@dataclass(frozen=True)
class Repository:
    """A bare repository that caches commits of the remote *url*, without their history."""

    process: ProcessRunner
    url: str
    directory: Path

    def remote_commit(self, ref: str) -> str:
        """Return the commit that *ref* (``refs/heads/..`` or ``refs/tags/..``) is now, remotely.

        Raises:
            SourceError: the remote cannot be asked, or has no such ref.
        """
        try:
            done = self._git("ls-remote", self.url, ref, f"{ref}^{{}}", timeout=ASK_TIMEOUT)
        except CommandError as error:
            msg = f"{self.url}: cannot be asked for {ref}: {error}"
            raise SourceError(msg) from error
        lines = (line.partition("\t") for line in done.text.splitlines())
        found = {name: commit for commit, _, name in lines}
        # An annotated tag is an object of its own; the line with ^{} is the commit it stands for.
        commit = found.get(f"{ref}^{{}}") or found.get(ref)
        if commit is None or COMMIT.fullmatch(commit) is None:
            msg = f"{self.url}: has no {ref}. Check source.branch and source.tag in the config."
            raise SourceError(msg)
        return commit

    def has(self, commit: str) -> bool:
        """Whether *commit* is here with all its files."""
        if not self.directory.is_dir():
            return False
        done = self._git("rev-parse", "--verify", "--quiet", _kept(commit), check=False)
        return done.status == 0

    def fetch(self, commit: str) -> None:
        """Fetch *commit* and its files, without its history.

        Raises:
            SourceError: the remote does not give it.
        """
        self._prepare()
        try:
            # The ref is written last, so a commit whose ref is here is here completely.
            self._git(
                "fetch",
                "--quiet",
                "--depth=1",
                "--no-tags",
                "--no-write-fetch-head",
                self.url,
                f"+{commit}:{_kept(commit)}",
                timeout=FETCH_TIMEOUT,
            )
        except CommandError as error:
            msg = f"{self.url}: does not give commit {commit}: {error}"
            raise SourceError(msg) from error

    def knows(self, tag: str, commit: str) -> bool:
        """Whether *commit* is here and :meth:`remember` was told that *tag* stands for it."""
        if not self.has(commit):
            return False
        done = self._git("rev-parse", "--verify", "--quiet", _tagged(tag), check=False)
        return done.status == 0 and done.text.strip() == commit

    def remember(self, tag: str, commit: str) -> None:
        """Keep here that *tag* stands for *commit*, which has been fetched."""
        self._git("update-ref", _tagged(tag), commit)

    def count_ancestors(self, commit: str) -> int:
        """Return how many commits *commit* has in its history, itself included.

        Only commits are fetched for it, where the remote can leave the rest out. They go into a
        repository of their own: in one without history, git counts nothing.
        """
        self._prepare()
        try:
            self._git(
                "fetch",
                "--quiet",
                "--filter=tree:0",
                "--no-tags",
                "--no-write-fetch-head",
                self.url,
                f"+{commit}:refs/pipeline/history",
                timeout=FETCH_TIMEOUT,
            )
        except CommandError as error:
            msg = f"{self.url}: does not give the history of commit {commit}: {error}"
            raise SourceError(msg) from error
        return int(self._git("rev-list", "--count", commit).text)

    def commit_time(self, commit: str) -> int:
        """Return when *commit* was made, in seconds since 1970 UTC."""
        return int(self._git("show", "--no-patch", "--format=%ct", commit).text)

    def file(self, commit: str, path: str) -> bytes:
        """Return the content of a file in *commit*.

        Raises:
            SourceError: there is none.
        """
        done = self._git("cat-file", "blob", f"{commit}:{path}", check=False)
        if done.status != 0:
            msg = f"{self.url}: commit {commit} has no file {path}."
            raise SourceError(msg)
        return done.stdout

    def export(self, commit: str, archive: Path) -> None:
        """Write the files of *commit* to *archive*, a tar file without a top directory.

        Line endings are those of the repository, whatever the user's own configuration says.
        """
        neutral = ("-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "core.attributesFile=")
        output = f"--output={archive}"
        self._git(*neutral, "archive", "--format=tar", output, commit, timeout=FETCH_TIMEOUT)

    def _prepare(self) -> None:
        if not (self.directory / "HEAD").is_file():
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            init = ("init", "--quiet", "--bare", str(self.directory))
            self.process.run(["git", *init], tool=GIT, environment=VARIABLES, without=UNSET)

    def _git(self, *arguments: str, timeout: float = 600, check: bool = True) -> Completed:
        place = [f"--git-dir={self.directory}"] if self.directory.is_dir() else []
        return self.process.run(
            ["git", *place, *arguments],
            tool=GIT,
            timeout=timeout,
            environment=VARIABLES,
            without=UNSET,
            check=check,
        )


def _tagged(tag: str) -> str:
    return f"refs/pipeline-tags/{tag}"


def _kept(commit: str) -> str:
    return f"refs/pipeline/{commit}"


class TreeFile(NamedTuple):
    """A file of a tree: a link's bytes are where it leads to."""

    data: bytes
    is_link: bool = False


class Commit(NamedTuple):
    """What a commit says beside its files; ``author`` is ``Name <address>``."""

    message: str
    author: str
    at: datetime


@dataclass(frozen=True)
class Branch:
    """A branch of the remote repository *url*, cached in a bare repository; it may not exist yet.

    Nothing is ever forced: who pushed first stays.
    """

    process: ProcessRunner
    url: str
    name: str
    directory: Path

    def head(self) -> str | None:
        """Fetch the branch and return its commit, or None if there is no such branch yet.

        Raises:
            TapError: the repository cannot be read.
        """
        self._prepare()
        done = self._asked("ls-remote", self.url, self._ref)
        commit = done.text.partition("\t")[0].strip()
        if not commit:
            return None
        fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self.url)
        self._asked(*fetch, f"+{self._ref}:{KEPT_BRANCH}")
        return self._git("rev-parse", "--verify", KEPT_BRANCH).text.strip()

    def files(self, commit: str, *directories: str) -> dict[str, TreeFile]:
        """Return the files below *directories* in *commit*, by path."""
        listed = self._git("ls-tree", "-r", "-z", commit, "--", *directories).stdout
        found = {}
        for line in filter(None, listed.decode("utf-8", "surrogateescape").split("\0")):
            about, _, path = line.partition("\t")
            mode, kind, name = about.split(" ")
            if kind == "blob":
                data = self._git("cat-file", "blob", name).stdout
                found[path] = TreeFile(data, is_link=mode == LINK_MODE)
        return found

    def commit(self, parent: str | None, changes: Mapping[str, TreeFile | None], of: Commit) -> str:
        """Return a new commit on *parent* with *changes*; None removes a file.

        Equal arguments give the same commit, whoever makes it and when.
        """
        with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
            # Without a work tree git does not remove from an index; nothing of it is looked at.
            index = {"GIT_INDEX_FILE": str(Path(temporary, "index")), "GIT_WORK_TREE": temporary}
            if parent is not None:
                self._git("read-tree", parent, environment=index)
            for path, file in sorted(changes.items()):
                self._git(*self._update(path, file, Path(temporary)), environment=index)
            tree = self._git("write-tree", environment=index).text.strip()
        onto = () if parent is None else ("-p", parent)
        words = ("commit-tree", tree, *onto, "-m", of.message)
        return self._git(*words, environment=_identity(of)).text.strip()

    def push(self, commit: str) -> None:
        """Make the branch *commit*, if that follows what it is.

        Raises:
            TapError: the repository does not take it; somebody may have been faster.
        """
        self._asked("push", "--quiet", self.url, f"{commit}:{self._ref}")

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.name}"

    def _update(self, path: str, file: TreeFile | None, temporary: Path) -> tuple[str, ...]:
        if file is None:
            return ("update-index", "--force-remove", path)
        content = temporary / "content"
        content.write_bytes(file.data)
        stored = self._git("hash-object", "-w", "--no-filters", str(content)).text.strip()
        mode = LINK_MODE if file.is_link else FILE_MODE
        return ("update-index", "--add", "--cacheinfo", f"{mode},{stored},{path}")

    def _prepare(self) -> None:
        if not (self.directory / "HEAD").is_file():
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            init = ("init", "--quiet", "--bare", "--template=", str(self.directory))
            self.process.run(["git", *init], tool=GIT, environment=VARIABLES, without=UNSET)

    def _asked(self, *arguments: str) -> Completed:
        """Run what talks to the remote repository."""
        try:
            return self._git(*arguments)
        except CommandError as error:
            msg = (
                f"{self.url}: {arguments[0]} of branch {self.name} failed: {error}\n"
                "Check key tap of channels.toml, and that git itself can push there."
            )
            raise TapError(msg) from error

    def _git(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Completed:
        return self.process.run(
            ["git", f"--git-dir={self.directory}", *NEUTRAL, *arguments],
            tool=GIT,
            timeout=ASK_TIMEOUT,
            environment={**VARIABLES, **(environment or {})},
            without=UNSET,
        )


def _identity(of: Commit) -> dict[str, str]:
    name, _, address = of.author.removesuffix(">").partition(" <")
    date = f"{int(of.at.timestamp())} +0000"
    return {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", name), ("EMAIL", address), ("DATE", date))
    }


@dataclass(frozen=True)
class Checkout:
    """A local directory of sources, with or without git."""

    process: ProcessRunner
    directory: Path

    def head(self) -> str | None:
        """Return the commit that is checked out, or None if the directory is no work tree."""
        if not (self.directory / ".git").exists():
            return None  # git would find a repository that the directory only lies in
        done = self._git("rev-parse", "--verify", "HEAD", check=False)
        return done.text.strip() if done.status == 0 else None

    def branch(self) -> str | None:
        """Return the name of the branch that is checked out, or None."""
        done = self._git("symbolic-ref", "--quiet", "--short", "HEAD", check=False)
        return done.text.strip() if done.status == 0 else None

    def commit_time(self) -> int:
        """Return when the commit that is checked out was made, in seconds since 1970 UTC."""
        return int(self._git("show", "--no-patch", "--format=%ct", "HEAD").text)

    def count_ancestors(self) -> int:
        """Return how many commits the one that is checked out has in its history.

        Raises:
            SourceError: the history is cut off, so that they cannot be counted.
        """
        if self._git("rev-parse", "--is-shallow-repository").text.strip() == "true":
            msg = f"{self.directory}: has no history. Run: git fetch --unshallow"
            raise SourceError(msg)
        return int(self._git("rev-list", "--count", "HEAD").text)

    def is_dirty(self) -> bool:
        """Whether a file differs from the commit, or is new and not ignored."""
        done = self._git("status", "--porcelain", "--untracked-files=normal")
        return bool(done.stdout.strip())

    def files(self) -> tuple[str, ...]:
        """Return the files that are tracked, or new and not ignored; sorted."""
        done = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = done.stdout.decode("utf-8", "surrogateescape").split("\0")
        return tuple(sorted(name for name in set(names) if name))

    def _git(self, *arguments: str, check: bool = True) -> Completed:
        return self.process.run(
            [
                "git",
                "-C",
                self.directory,
                f"--git-dir={self.directory / '.git'}",
                f"--work-tree={self.directory}",
                *arguments,
            ],
            tool=GIT,
            environment=VARIABLES,
            without=UNSET,
            check=check,
        )
