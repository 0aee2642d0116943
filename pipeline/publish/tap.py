"""Writes the formulas that the ledger says into a Homebrew tap, a git repository.

A tap is a projection like an index: it may be written at any time, and what is right already is
left alone. A formula is written only after readers get every file that it names, with the digest
that it has; the others are written nevertheless, and what is there of a release that is not offered
any more goes. Formulas of ours begin with a mark; other files of the repository are never touched.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.effects.context import Context
from pipeline.effects.git import Branch, Commit, TreeFile
from pipeline.effects.public import Receive
from pipeline.errors import ConflictError, DownloadError, FormulaError, TapError
from pipeline.model import naming
from pipeline.model.artifacts import Artifact
from pipeline.model.configs import Config
from pipeline.model.homebrew import TapConfig
from pipeline.model.ledger import State
from pipeline.publish.ledger import pause_before_next
from pipeline.publish.projections.homebrew import MARK, Formula, formulas
from pipeline.publish.sites import Site
from pipeline.publish.view import View

FORMULA_DIRECTORY: Final = "Formula"
ALIAS_DIRECTORY: Final = "Aliases"
ATTEMPTS: Final = 10
UNWRITTEN: Final = "This formula was not written; run again when readers can get the file."

Files = Mapping[str, TreeFile]
"""Files of a tap, by path."""


@dataclass(frozen=True, kw_only=True)
class TapChange:
    """How a tap's files must change; None removes one."""

    files: Mapping[str, TreeFile | None]
    formulas: tuple[Formula, ...]

    def __bool__(self) -> bool:
        return bool(self.files)


def write_tap(
    ctx: Context,
    tap: TapConfig,
    state: State,
    site: Site,
    *,
    checked: Collection[Artifact] = (),
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Make *tap* what *state* says; return what had to change, nothing if it was right.

    *site* is where formulas lead to. *checked* are files that readers were seen to get by now;
    the others are fetched.

    Raises:
        FormulaError: readers do not get a file that a formula names; all else was written.
        TapError: the repository cannot be read or written, or a formula's name is taken there.
        ConflictError: others kept pushing; run again.
        ConfigError: formulas' names clash.
    """
    branch, seen = _branch(ctx, tap), set(checked)
    for attempt in range(ATTEMPTS):
        head = branch.head()
        there = _files(branch, head)
        change = _change(ctx.config, tap, state, site, there)
        failed = _check_files(ctx, site, change.formulas, seen)
        change = change_without(change, failed, there, _offered(state))
        if not change or _written(branch, head, change, _commit(tap, state, change)):
            return _told_unless(tap, change, failed)
        pause(pause_before_next(attempt))
    msg = f"{tap.repository}: changed by others all the time. Run: python -m pipeline reconcile"
    raise ConflictError(msg)


def stale_tap(ctx: Context, tap: TapConfig, state: State, site: Site) -> list[str]:
    """Return what of *tap* is not what *state* says; writes nothing.

    Raises:
        TapError: the repository cannot be read, or a formula's name is taken there.
        ConfigError: formulas' names clash.
    """
    branch = _branch(ctx, tap)
    return _told(tap, _change(ctx.config, tap, state, site, _files(branch, branch.head())))


def tap_files(wanted: Collection[Formula]) -> dict[str, TreeFile]:
    """Return the files of a tap: formulas, and aliases as links to them. Pure."""
    found = {_path(formula.name): TreeFile(formula.text.encode()) for formula in wanted}
    for formula in wanted:
        link = TreeFile(f"../{_path(formula.name)}".encode(), is_link=True)
        found |= {f"{ALIAS_DIRECTORY}/{alias}": link for alias in formula.aliases}
    return found


def tap_change(wanted: Collection[Formula], products: Collection[str], there: Files) -> TapChange:
    """Return how the files that are *there* must change to be *wanted*. Pure.

    Of what is there, formulas of *products* that bear our mark are ours, and aliases that lead to
    such.

    Raises:
        ValueError: a file that is not ours has the name of one that is wanted; its path.
    """
    files = tap_files(wanted)
    own = set(_own(products, there))
    for path in sorted(files.keys() & there.keys()):
        if path not in own and there[path] != files[path]:
            raise ValueError(path)
    changes: dict[str, TreeFile | None] = {
        path: file for path, file in files.items() if there.get(path) != file
    }
    changes |= dict.fromkeys(own - files.keys())
    return TapChange(
        files=dict(sorted(changes.items())),
        formulas=tuple(formula for formula in wanted if _path(formula.name) in changes),
    )


def change_without(
    change: TapChange, unwritten: Collection[str], there: Files, offered: Collection[str]
) -> TapChange:
    """Return *change* without the formulas *unwritten*, whose files readers do not get. Pure.

    What is *there* of such a one stays if it is of a release in *offered*, named as
    ``pypy/pypy3.11-v7.3.23``, and goes if not. An alias never leads to a formula that is not there:
    it stays as it is, or goes.
    """
    paths = {_path(name) for name in unwritten}
    staying = {path for path in paths & there.keys() if _release_of(there[path]) in offered}
    gone = paths - staying
    files = {path: file for path, file in change.files.items() if path not in paths}
    files |= dict.fromkeys(gone & there.keys())
    for alias in (path for path in {*files, *there} if path.startswith(f"{ALIAS_DIRECTORY}/")):
        if _leads_to(files.get(alias, there.get(alias))) not in gone:
            continue
        files.pop(alias, None)
        if (old := _leads_to(there.get(alias))) and (old in gone or files.get(old, old) is None):
            files[alias] = None
    formulas = tuple(item for item in change.formulas if item.name not in unwritten)
    return TapChange(files=dict(sorted(files.items())), formulas=formulas)


def _offered(state: State) -> set[str]:
    return {
        f"{item.published.product}/{item.published.release}"
        for item in state.releases
        if item.is_offered
    }


def _release_of(formula: TreeFile) -> str:
    """Return the product and the release of a formula that bears our mark."""
    return formula.data.decode("utf-8", "replace").partition("\n")[0].removeprefix(MARK)


def _leads_to(alias: TreeFile | None) -> str | None:
    """Return the path of the file that a link of the tap leads to."""
    if alias is None or not alias.is_link:
        return None
    return alias.data.decode("utf-8", "replace").removeprefix("../")


def _path(formula: str) -> str:
    return f"{FORMULA_DIRECTORY}/{formula}.rb"


def _own(products: Collection[str], there: Files) -> Iterator[str]:
    marks = tuple(f"{MARK}{product}/".encode() for product in products)
    formulas = {path for path, file in there.items() if file.data.startswith(marks)}
    yield from formulas
    for path, file in there.items():
        if path.startswith(f"{ALIAS_DIRECTORY}/") and _leads_to(file) in formulas:
            yield path


def _branch(ctx: Context, tap: TapConfig) -> Branch:
    name = hashlib.sha256(tap.repository.encode()).hexdigest()[:16]
    directory = ctx.work.path("cache", "tap", f"{name}.git")
    return Branch(ctx.process, tap.repository, tap.branch, directory)


def _files(branch: Branch, head: str | None) -> Files:
    return {} if head is None else branch.files(head, FORMULA_DIRECTORY, ALIAS_DIRECTORY)


def _change(config: Config, tap: TapConfig, state: State, site: Site, there: Files) -> TapChange:
    view = View(
        state=state,
        platforms=config.platforms,
        interpreters=config.interpreters,
        base_url=site.base_url,
    )
    try:
        return tap_change(formulas(view), view.products, there)
    except ValueError as error:
        msg = (
            f"{tap.repository}: {error} is there, but was not written by this program. Remove it, "
            "or give the formula or alias another name (key homebrew of the interpreter's file)."
        )
        raise TapError(msg) from error


def _check_files(
    ctx: Context, site: Site, wanted: Collection[Formula], seen: set[Artifact]
) -> dict[str, FormulaError]:
    """Fetch what the formulas name, as readers do, and add it to *seen*.

    Return why formulas cannot be written, by name.
    """
    failed: dict[str, FormulaError] = {}
    with (
        tempfile.TemporaryDirectory(prefix="rpp-") as temporary,
        ctx.public.reader(site.store, site.base_url) as receive,
    ):
        for formula in wanted:
            try:
                for artifact in (item for item in formula.files if item not in seen):
                    _check_file(receive, site, formula, artifact, Path(temporary, "file"))
                    seen.add(artifact)
            except FormulaError as error:
                failed[formula.name] = error
    return failed


def _check_file(
    receive: Receive, site: Site, formula: Formula, artifact: Artifact, save: Path
) -> None:
    key = naming.store_key(formula.event.product, formula.event.release, artifact.filename)
    url = naming.public_url(site.base_url, key)
    try:
        received = receive(key, save, artifact.size)
    except DownloadError as error:
        msg = f"formula {formula.name}: {error} {UNWRITTEN}"
        raise FormulaError(msg) from error
    if received.content_encoding not in {None, "identity"}:
        msg = (
            f"formula {formula.name}: {url}: is sent with Content-Encoding "
            f"{received.content_encoding}; switch compression off on the server. {UNWRITTEN}"
        )
        raise FormulaError(msg)
    if (received.size, received.sha256) != (artifact.size, artifact.sha256):
        msg = (
            f"formula {formula.name}: {url}: readers get {received.size} bytes with sha256 "
            f"{received.sha256}, but {artifact.size} bytes with sha256 {artifact.sha256} were "
            f"released. {UNWRITTEN}"
        )
        raise FormulaError(msg)


def _commit(tap: TapConfig, state: State, change: TapChange) -> Commit:
    """Return what the commit says: all of it follows from the ledger."""
    return Commit(message=_message(change), author=tap.author, at=_last_event(state))


def _message(change: TapChange) -> str:
    versions = {_path(item.name): str(item.event.interpreter_version) for item in change.formulas}
    said = [
        f"{Path(path).stem} {versions[path]}" if path in versions else f"remove {Path(path).stem}"
        for path in change.files
        if path.startswith(f"{FORMULA_DIRECTORY}/")
    ]
    return ", ".join(said) or "aliases"


def _last_event(state: State) -> datetime:
    """Return when the newest event was that the state still knows; a tap has one at least."""
    return max(
        event.at
        for item in state.releases
        for event in (item.published, item.promoted, item.yanked, item.pruned)
        if event is not None
    )


def _written(branch: Branch, head: str | None, change: TapChange, said: Commit) -> bool:
    return _pushed(branch, branch.commit(head, change.files, said), head)


def _pushed(branch: Branch, commit: str, onto: str | None) -> bool:
    """Push, and return whether the branch is *commit*; not if somebody else was faster.

    An answer may be lost, so it is the branch that tells.

    Raises:
        TapError: the repository does not take it, and nobody was faster.
    """
    try:
        branch.push(commit)
    except TapError:
        if (now := branch.head()) == onto:
            raise
        return now == commit
    return True


def _told_unless(
    tap: TapConfig, change: TapChange, failed: Mapping[str, FormulaError]
) -> list[str]:
    """Return what changed, where every formula could be written."""
    if failed:
        raise FormulaError("\n".join(str(error) for error in failed.values()))
    return _told(tap, change)


def _told(tap: TapConfig, change: TapChange) -> list[str]:
    return [f"{tap.repository} ({tap.branch}): {path}" for path in change.files]
