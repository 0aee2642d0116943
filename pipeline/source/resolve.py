"""Decides which revision is meant: a pinned release, a branch as it is now, a local directory."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

from pipeline.effects.context import Context
from pipeline.effects.git import Checkout, Repository
from pipeline.errors import ConfigError, SourceError
from pipeline.model.configs import DirectorySource, GitSource, InterpreterConfig
from pipeline.model.records import Resolved, Revision
from pipeline.model.versions import InterpreterVersion, nightly_number, tag_for
from pipeline.plan import Selection
from pipeline.source.tree import checkout_entries, kept_entries, tree_digest
from pipeline.source.versions import read_versions


def resolve(ctx: Context, interpreter: InterpreterConfig, selection: Selection) -> Resolved:
    """Return which source of *interpreter* is meant by *selection*, and which versions it is.

    Raises:
        SourceError: there is no such source, it may not be released, or it is another version.
        ConfigError: a version is asked for where the source says which one it is.
    """
    source = interpreter.source
    if selection.version is not None and (
        selection.source or _is_nightly_of_git(source, selection)
    ):
        msg = (
            f"command line: --interpreter-version {selection.version}: this source says itself "
            "which version it is. Leave the option out."
        )
        raise ConfigError(msg)
    if selection.source is not None:
        return _local(ctx, interpreter, selection, Path(selection.source))
    if isinstance(source, DirectorySource):
        return _directory(ctx, interpreter, source, selection)
    repository = git_repository(ctx, source)
    if selection.channel == "release":
        return _release(ctx, interpreter, repository, selection)
    return _nightly(ctx, interpreter, repository)


def _is_nightly_of_git(source: DirectorySource | GitSource, selection: Selection) -> bool:
    return selection.channel == "nightly" and isinstance(source, GitSource)


def git_repository(ctx: Context, source: GitSource) -> Repository:
    """Return the cache of a repository's commits."""
    name = hashlib.sha256(source.repository.encode()).hexdigest()[:16]
    directory = ctx.work.path("cache", "git", f"{name}.git")
    return Repository(process=ctx.process, url=source.repository, directory=directory)


def source_directory(ctx: Context, source: DirectorySource) -> Path:
    """Return where a source inside this repository is."""
    return Path(ctx.config.root) / source.path


def _directory(
    ctx: Context, interpreter: InterpreterConfig, source: DirectorySource, selection: Selection
) -> Resolved:
    midnight = datetime.combine(source.date, time(), tzinfo=UTC)
    return Resolved(
        revision=Revision(
            kind=source.kind,
            revision=tree_digest(source_directory(ctx, source)),
            number=int(source.date.strftime("%Y%m%d")),
            epoch=int(midnight.timestamp()),
        ),
        interpreter_version=selection.version or interpreter.interpreter_version,
        language_version=interpreter.language_version,
    )


def _release(
    ctx: Context, interpreter: InterpreterConfig, repository: Repository, selection: Selection
) -> Resolved:
    source = _git(interpreter)
    version = selection.version or interpreter.interpreter_version
    tag = tag_for(source.tag, version)
    commit = source.commits.get(str(version))
    if commit is None:
        found = repository.remote_commit(f"refs/tags/{tag}")
        msg = (
            f"{interpreter.interpreter}.toml: key source.commits has no {version}, so its tag "
            f"could be moved without anybody noticing. To release {tag} as it is now, add: "
            f'"{version}" = "{found}"'
        )
        raise SourceError(msg)
    # A nightly may have fetched the commit before, and nightlies ask for no tag.
    if not repository.knows(tag, commit):
        _check_tag(repository, tag, commit)
        if not repository.has(commit):
            _fetch(ctx, repository, commit, tag)
        repository.remember(tag, commit)
    resolved = _described(interpreter, repository, commit)
    _check_version(resolved, version, where=f"{repository.url}: {tag}")
    return _with_revision(resolved, tag=tag, branch=_release_branch(tag))


def _release_branch(tag: str) -> str:
    """Return the branch that upstream cuts a release from by its rule: ``release-pypy3.11-v7.x``.

    The remote is not asked, since branches move.
    """
    before, _, version = tag.rpartition("-v")
    return f"{before}-v{version.split('.')[0]}.x"


def _nightly(ctx: Context, interpreter: InterpreterConfig, repository: Repository) -> Resolved:
    source = _git(interpreter)
    commit = repository.remote_commit(f"refs/heads/{source.branch}")
    if not repository.has(commit):
        _fetch(ctx, repository, commit, source.branch)
    history = replace(
        repository, directory=repository.directory.with_name(f"{repository.directory.stem}-history")
    )
    with ctx.console.step(f"history of {repository.url} {source.branch}"):
        number = nightly_number(history.count_ancestors(commit))
    resolved = _described(interpreter, repository, commit)
    return _with_revision(resolved, branch=source.branch, number=number)


def _local(
    ctx: Context, interpreter: InterpreterConfig, selection: Selection, directory: Path
) -> Resolved:
    """Resolve a directory that somebody works in; only nightlies of one's own are made of it."""
    if selection.channel == "release":
        msg = (
            f"{directory}: a release is made of a commit that everybody can have, so --source is "
            "for nightlies only."
        )
        raise SourceError(msg)
    if isinstance(interpreter.source, DirectorySource):
        msg = f"{interpreter.interpreter}.toml: its source is a directory already; edit that."
        raise SourceError(msg)
    revision = local_revision(ctx, directory)
    path = directory / interpreter.source.version_file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read ({error}); is {directory} a source of PyPy?"
        raise SourceError(msg) from error
    version, language = read_versions(text, str(path))
    _check_language(interpreter, language, where=str(path))
    return Resolved(revision=revision, interpreter_version=version, language_version=language)


def local_revision(ctx: Context, directory: Path) -> Revision:
    """Return what a local directory holds now.

    Raises:
        SourceError: it has no files, or its history is cut off, so that no number can be given.
    """
    checkout = Checkout(ctx.process, directory)
    head = checkout.head()
    if head is None:
        entries = list(kept_entries(directory, "."))
        times = [
            entry.content.stat().st_mtime for entry in entries if isinstance(entry.content, Path)
        ]
        epoch = int(max(times, default=0))
        number, dirty = int(datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d")), True
    else:
        entries = list(checkout_entries(checkout, "."))
        number, dirty = nightly_number(checkout.count_ancestors()), checkout.is_dirty()
        epoch = checkout.commit_time()
    return Revision(
        kind="checkout",
        revision=head if head is not None and not dirty else tree_digest(directory, entries),
        number=number,
        epoch=epoch,
        branch=checkout.branch() if head is not None else None,
        dirty=dirty,
    )


def _git(interpreter: InterpreterConfig) -> GitSource:
    source = interpreter.source
    if not isinstance(source, GitSource):
        msg = f"{interpreter.interpreter}: its source is {source.kind}"
        raise TypeError(msg)
    return source


def _check_tag(repository: Repository, tag: str, commit: str) -> None:
    found = repository.remote_commit(f"refs/tags/{tag}")
    if found != commit:
        msg = (
            f"{repository.url}: tag {tag} is commit {found}, but source.commits pins {commit}. "
            "Tags do not move: find out why before you change the pin."
        )
        raise SourceError(msg)


def _fetch(ctx: Context, repository: Repository, commit: str, name: str) -> None:
    with ctx.console.step(f"fetch {repository.url} {name}") as step:
        step.phase(f"commit {commit}")
        repository.fetch(commit)


def _described(interpreter: InterpreterConfig, repository: Repository, commit: str) -> Resolved:
    path = _git(interpreter).version_file
    where = f"{repository.url}: commit {commit}: {path}"
    text = repository.file(commit, path).decode("utf-8", "replace")
    version, language = read_versions(text, where)
    _check_language(interpreter, language, where=where)
    return Resolved(
        revision=Revision(
            kind="git", revision=commit, number=None, epoch=repository.commit_time(commit)
        ),
        interpreter_version=version,
        language_version=language,
    )


def _with_revision(resolved: Resolved, **fields: object) -> Resolved:
    revision = resolved.revision.model_copy(update=fields)
    return resolved.model_copy(update={"revision": revision})


def _check_language(interpreter: InterpreterConfig, language: str, *, where: str) -> None:
    wanted = interpreter.language_version
    if language != wanted and not language.startswith(f"{wanted}."):
        msg = (
            f"{where}: is for language version {language}, but {interpreter.interpreter}.toml "
            f"says {wanted}."
        )
        raise SourceError(msg)


def _check_version(resolved: Resolved, version: InterpreterVersion, *, where: str) -> None:
    """A final release is made of a final source, a candidate of that very candidate."""
    found = resolved.interpreter_version
    if found != version:
        msg = (
            f"{where}: its source says it is {found}, and {version} was asked for. A release's "
            "version is that of its source."
        )
        raise SourceError(msg)
