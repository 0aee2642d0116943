"""The port to git: revisions of remote repositories, fetched into bare caches.

URLs reach git as they are configured, so a mirror is git's own ``url.<base>.insteadOf``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.effects.process import Completed, ProcessRunner, Tool
from pipeline.errors import CommandError, SourceError

GIT: Final = Tool(program="git", purpose="fetch sources", package="git")
FETCH_TIMEOUT: Final = 3600
ASK_TIMEOUT: Final = 120
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# A password prompt would wait for ever.
VARIABLES: Final[Mapping[str, str]] = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
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
