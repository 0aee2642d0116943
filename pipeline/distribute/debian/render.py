"""What Debian packages hold beside the archive's files, and where these are put. Pure.

Formats: Debian policy 4.7 (chapter 5 for ``control``, 4.4 for changelogs, 6 for scripts, 12 for
documents), ``deb-triggers(5)``, PEP 668.
"""

import hashlib
import math
import os.path
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from typing import Final

import deflate

from pipeline.effects.archives import GZIP_LEVEL, Entry
from pipeline.model.debian import DebianConfig, DebianPart, DebianSuite, Vendor, package_version
from pipeline.model.records import BuildInfo
from pipeline.plan import Job
from pipeline.templates import rendered

TEMPLATES: Final = "debian"
CONTROL: Final = "DEBIAN/control"
DOCUMENTS: Final = "usr/share/doc"
OVERRIDES: Final = "usr/share/lintian/overrides"
DEBUG_FILES: Final = "usr/lib/debug/.build-id"
WIDTH: Final = 76
BLOCK: Final = 1024
_ARTICLE: Final = re.compile(r"^(An?|The) ")
_PYTHON_SCRIPT: Final = re.compile(rb"#![^\n]*python[^\n]*\n")
_BULLET: Final = re.compile(r"^\s*[-*] +")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What packages are made of, and for whom: a job's archive, for one suite.

    ``license_text`` is the archive's own, ``notes`` the release notes in Markdown, empty if there
    are none.
    """

    job: Job
    config: DebianConfig
    vendor: Vendor
    suite_name: str
    suite: DebianSuite
    info: BuildInfo
    archive: str
    license_text: str
    notes: str = ""

    @property
    def root(self) -> str:
        """The directory that has the interpreter's files, without the first slash."""
        return f"{self.vendor.prefix}/{self.config.package}"

    @property
    def architecture(self) -> str:
        """Debian's name of the platform."""
        return str(self.job.platform.debian_arch)

    @property
    def version(self) -> str:
        """The version of all packages."""
        return package_version(self.job.version, self.suite, self.job.nightly)

    def part(self, name: str) -> DebianPart | None:
        """Return the part that a package is, None if it is the main one."""
        parts = (part for part in self.config.parts if self.config.part_name(part) == name)
        return next(parts, None)


def placed(subject: Subject, name: str, files: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the archive's *files*, named below its top directory, where a package has them."""
    part = subject.part(name)
    files = tuple(_with_own_python(subject, entry) for entry in files)
    if part is not None and part.documents:
        return tuple(
            replace(entry, path=f"{DOCUMENTS}/{name}/{PurePosixPath(entry.path).name}")
            for entry in files
        )
    return tuple(replace(entry, path=f"{subject.root}/{entry.path}") for entry in files)


def debug_file(build_id: str, content: Path) -> Entry:
    """Return debug symbols where gdb looks for them, by the id that the linker gave."""
    return Entry(path=f"{DEBUG_FILES}/{build_id[:2]}/{build_id[2:]}.debug", content=content)


def completed(
    subject: Subject, name: str, files: tuple[Entry, ...], depends: tuple[str, ...]
) -> tuple[Entry, ...]:
    """Return the whole tree of a package: *files* that are placed, and all that Debian asks for.

    *depends* are the packages with the libraries that its programs need.
    """
    installed = (*files, *_documents(subject, name), *_additions(subject, name))
    scripts = tuple(_control_files(subject, name, has_modules=_has_modules(installed)))
    values = {**_shared(subject, name), **_relations(subject, name, depends)}
    control = rendered(
        f"{TEMPLATES}/control.jinja", {**values, "installed_size": installed_size(installed)}
    )
    return (
        *installed,
        *scripts,
        Entry(path=CONTROL, content=control.encode()),
        Entry(path="DEBIAN/md5sums", content=_md5sums(installed)),
    )


def control_of(tree: Iterable[Entry]) -> str:
    """Return the control stanza of a package's tree, without a last newline."""
    content = next(entry.content for entry in tree if entry.path == CONTROL)
    return content.decode().rstrip("\n") if isinstance(content, bytes) else ""


def installed_size(entries: Iterable[Entry]) -> int:
    """Return what files take when they are installed, in kibibytes as policy 5.6.20 counts."""
    return sum(math.ceil(_size(entry) / BLOCK) or 1 for entry in entries)


def changelog(subject: Subject) -> str:
    """Return the packages' changelog: one entry, from the release notes or from the source."""
    built = f"Made of {subject.archive}, built from {subject.info.source.kind} revision "
    built += f"{subject.info.source.revision}."
    noted = list(noted_changes(subject.notes))
    first = f"Release {subject.job.version}." if subject.job.nightly is None else "A nightly."
    items = [_wrapped(item) for item in (first, *noted, built)]
    return rendered(
        f"{TEMPLATES}/changelog.jinja",
        {
            **_shared(subject, subject.config.package),
            "suite": subject.suite_name,
            "items": items,
            "date": format_datetime(datetime.fromtimestamp(subject.job.revision.epoch, UTC)),
        },
    )


def noted_changes(notes: str) -> Iterator[str]:
    """Yield the changes that release notes list: their bullets, each on one line."""
    change: list[str] = []
    for line in notes.splitlines():
        begins = _BULLET.match(line) is not None
        if change and (begins or not line.strip() or line.startswith("#")):
            yield " ".join(change)
            change = []
        if begins:
            change = [_BULLET.sub("", line).strip()]
        elif change:
            change.append(line.strip())
    if change:
        yield " ".join(change)


def _with_own_python(subject: Subject, entry: Entry) -> Entry:
    """Return a Python script that is run by the package's own Python, not by any other."""
    python = subject.config.python
    if python is None or not isinstance(entry.content, Path) or entry.link is not None:
        return entry
    with entry.content.open("rb") as stream:
        found = _PYTHON_SCRIPT.match(stream.readline(BLOCK))
        if found is None:
            return entry
        content = f"#!/{subject.root}/{python}\n".encode() + stream.read()
    return replace(entry, content=content)


def _shared(subject: Subject, name: str) -> dict[str, object]:
    """Return what every template may say."""
    config, interpreter = subject.config, subject.job.interpreter
    is_main = name == config.package
    return {
        "name": name,
        "is_main": is_main,
        "package": config.package,
        "source": config.package,
        "interpreter": interpreter.interpreter,
        "version": subject.version,
        "architecture": subject.architecture,
        "maintainer": subject.vendor.maintainer,
        "vendor": subject.vendor.name,
        "homepage": interpreter.homepage,
        "license": interpreter.license,
        "upstream": interpreter.interpreter,
        "archive": subject.archive,
        "root": subject.root,
        "commands": sorted(config.commands.items()),
        "command": _stable_command(config, subject.root),
        "alternatives": config.alternatives,
        "python": config.python,
        "byte_compiled": config.byte_compiled,
        "externally_managed": config.externally_managed,
    }


def _stable_command(config: DebianConfig, root: str) -> str:
    """Return how the program is started whatever else is installed: a venv leads to that name."""
    return min(config.commands) if config.commands else f"/{root}/{config.python}"


def _relations(subject: Subject, name: str, depends: tuple[str, ...]) -> dict[str, object]:
    """Return what a package is and which others it needs or would like."""
    config, part = subject.config, subject.part(name)
    summary = _ARTICLE.sub("", subject.job.interpreter.summary)
    if part is None:
        own = tuple(f"{config.package}{suffix}" for suffix in config.recommends)
        return {
            "depends": sorted(depends),
            "recommends": (*own, *config.recommended),
            "section": config.section,
            "synopsis": summary,
            "description": _description(subject, ()),
        }
    main = f"{config.package} (= {subject.version})"
    return {
        "depends": (main, *sorted({*depends, *part.needs})),
        "recommends": (),
        "section": part.section or config.section,
        "synopsis": f"{summary} ({part.summary})",
        "description": _description(subject, (f"This package has its {part.summary}.", "")),
    }


def _description(subject: Subject, begin: tuple[str, ...]) -> tuple[str, ...]:
    text = (
        f"{subject.job.interpreter.interpreter} {subject.job.version} as {subject.vendor.name} "
        f"releases it, below /{subject.root}: it can be installed beside the packages of the "
        "distribution and beside other versions."
    )
    return (*begin, *_wrapped(text))


def _wrapped(text: str) -> list[str]:
    """Return lines; names and paths stay whole."""
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _documents(subject: Subject, name: str) -> Iterator[Entry]:
    directory = f"{DOCUMENTS}/{name}"
    values = _shared(subject, name)
    text = [line.rstrip() for line in subject.license_text.strip().splitlines()]
    terms = rendered(f"{TEMPLATES}/copyright.jinja", {**values, "text": text})
    yield Entry(path=f"{directory}/copyright", content=terms.encode())
    packed = deflate.gzip_compress(changelog(subject).encode(), GZIP_LEVEL)
    yield Entry(path=f"{directory}/changelog.Debian.gz", content=bytes(packed))
    if name == subject.config.package:
        readme = rendered(f"{TEMPLATES}/README.Debian.jinja", values)
        yield Entry(path=f"{directory}/README.Debian", content=readme.encode())


def _additions(subject: Subject, name: str) -> Iterator[Entry]:
    """Yield what else is installed: commands, PEP 668's file, lintian's overrides."""
    config = subject.config
    lines = [
        line
        for override in config.overrides
        if override.package == name
        for line in (f"# {override.reason}", f"{name}: {override.tag} {override.context}")
    ]
    if lines:
        text = "".join(f"{line}\n" for line in lines)
        yield Entry(path=f"{OVERRIDES}/{name}", content=text.encode())
    if name != config.package:
        return
    for command, program in config.commands.items():
        link = os.path.relpath(f"{subject.root}/{program}", "usr/bin")
        yield Entry(path=f"usr/bin/{command}", link=link)
    if config.externally_managed is not None:
        values = _shared(subject, name)
        text = rendered(f"{TEMPLATES}/EXTERNALLY-MANAGED.jinja", values)
        path = f"{subject.root}/{config.externally_managed}"
        yield Entry(path=path, content=text.encode())


def _control_files(subject: Subject, name: str, *, has_modules: bool) -> Iterator[Entry]:
    """Yield the maintainer scripts and triggers that a package has a use for."""
    config = subject.config
    values = _shared(subject, name)
    if name == config.package:
        if config.alternatives or config.byte_compiled:
            yield _script("postinst", values)
            yield _script("prerm", values)
            triggers = rendered(f"{TEMPLATES}/triggers.jinja", values)
            yield Entry(path="DEBIAN/triggers", content=triggers.encode())
    elif has_modules and config.byte_compiled:
        yield _script("prerm", values)


def _script(name: str, values: Mapping[str, object]) -> Entry:
    text = rendered(f"{TEMPLATES}/{name}.jinja", values)
    return Entry(path=f"DEBIAN/{name}", content=text.encode(), executable=True)


def _has_modules(entries: Iterable[Entry]) -> bool:
    return any(entry.path.endswith(".py") for entry in entries)


def _size(entry: Entry) -> int:
    if entry.link is not None:
        return 0
    return entry.content.stat().st_size if isinstance(entry.content, Path) else len(entry.content)


def _md5sums(entries: Iterable[Entry]) -> bytes:
    """Return the digests that ``dpkg --verify`` compares files with; MD5 by the format."""
    lines = sorted((entry.path, _md5(entry.content)) for entry in entries if entry.link is None)
    return "".join(f"{digest}  {path}\n" for path, digest in lines).encode()


def _md5(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
