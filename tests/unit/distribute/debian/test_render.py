"""What packages hold beside the archive's files."""

import gzip
import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.distribute.debian.render import (
    Subject,
    changelog,
    completed,
    control_of,
    debug_file,
    installed_size,
    noted_changes,
    placed,
)
from pipeline.effects.archives import Entry
from pipeline.model.configs import Channel
from pipeline.model.debian import AptConfig, BinaryPackage, LintianOverride, package_filename
from pipeline.model.naming import archive_stem, nightly_name
from pipeline.plan import Job
from tests.conftest import CheckGolden
from tests.factories import (
    changed,
    digest,
    make_build_info_of,
    make_config,
    make_git_revision,
    make_job,
    make_plan_for,
    make_pypy_job,
)

ROOT: Final = "usr/lib/rpython/pypy3.11"
SCRIPTS: Final = ("postinst", "prerm", "triggers")


def make_subject(job: Job | None = None, **overrides: Any) -> Subject:
    """Return PyPy's packages for bookworm."""
    job = job or make_pypy_job()
    config = make_config()
    assert job.interpreter.debian is not None
    fields: dict[str, Any] = {
        "job": job,
        "config": job.interpreter.debian,
        "vendor": config.vendor,
        "suite_name": "bookworm",
        "suite": config.suites["bookworm"],
        "info": make_build_info_of(job),
        "archive": f"{job.stem}.tar.zst",
        "license_text": "The MIT License\n\nPermission is hereby granted.\n",
    }
    return Subject(**{**fields, **overrides})


def make_nightly_job() -> Job:
    """Return the job of a nightly of PyPy, whose stem has no release's name."""
    job = make_pypy_job(revision=make_git_revision(number=188288))
    name = nightly_name(job.interpreter, job.revision)
    stem = archive_stem(name, job.platform, nightly=True)
    return changed(job, stem=stem, nightly_day=date(2026, 11, 25))


def text_of(tree: Sequence[Entry], path: str) -> str:
    """Return a file's text."""
    (content,) = (entry.content for entry in tree if entry.path == path)
    assert isinstance(content, bytes)
    return content.decode()


def tree_of(name: str, files: tuple[Entry, ...] = (), **overrides: Any) -> tuple[Entry, ...]:
    """Return the whole tree of one of PyPy's packages."""
    return completed(make_subject(**overrides), name, files, ("libc6 (>= 2.34)", "zlib1g"))


def test_pypys_control_and_scripts_are_as_they_were_looked_at(check_golden: CheckGolden) -> None:
    tree = tree_of("pypy3.11", (Entry(path=f"{ROOT}/bin/pypy3.11", content=b"\x7fELF"),))
    files = ("control", *SCRIPTS)

    for name in files:
        check_golden(f"debian/pypy3.11-{name}", text_of(tree, f"DEBIAN/{name}").encode())
    path = f"{ROOT}/lib/pypy3.11/EXTERNALLY-MANAGED"
    check_golden("debian/pypy3.11-EXTERNALLY-MANAGED", text_of(tree, path).encode())
    path = "usr/share/doc/pypy3.11/README.Debian"
    check_golden("debian/pypy3.11-README.Debian", text_of(tree, path).encode())


def test_a_parts_control_and_script_are_as_they_were_looked_at(check_golden: CheckGolden) -> None:
    module = Entry(path=f"{ROOT}/lib/pypy3.11/turtle.py", content=b"pass\n")

    tree = tree_of("pypy3.11-tk", (module,))

    check_golden("debian/pypy3.11-tk-control", text_of(tree, "DEBIAN/control").encode())
    check_golden("debian/pypy3.11-tk-prerm", text_of(tree, "DEBIAN/prerm").encode())


def test_an_interpreter_that_is_no_python_has_its_command_and_no_more(
    check_golden: CheckGolden,
) -> None:
    subject = make_subject(make_job())

    tree = completed(subject, "rpython-demo", (), ())

    assert not any("EXTERNALLY" in entry.path for entry in tree)
    for name in ("control", *SCRIPTS):
        check_golden(f"debian/demo-{name}", text_of(tree, f"DEBIAN/{name}").encode())


def test_a_part_without_modules_has_no_scripts() -> None:
    tree = tree_of("pypy3.11-dev", (Entry(path=f"{ROOT}/include/Python.h"),))

    scripts = {entry.path for entry in tree if entry.path.startswith("DEBIAN/")}
    assert scripts == {"DEBIAN/control", "DEBIAN/md5sums"}


def test_scripts_are_executable_and_nothing_else_of_control_is() -> None:
    tree = tree_of("pypy3.11")

    executable = {entry.path for entry in tree if entry.executable}
    assert executable == {"DEBIAN/postinst", "DEBIAN/prerm"}


def test_the_own_command_is_a_relative_link_below_usr() -> None:
    links = {entry.path: entry.link for entry in tree_of("pypy3.11") if entry.link}

    assert links == {"usr/bin/pypy3.11-rpython": "../lib/rpython/pypy3.11/bin/pypy3.11"}


@pytest.mark.parametrize("name", ["pypy3.11", "pypy3.11-doc"])
def test_every_package_has_licence_and_changelog(name: str) -> None:
    paths = {entry.path for entry in tree_of(name)}

    directory = f"usr/share/doc/{name}"
    assert {f"{directory}/copyright", f"{directory}/changelog.Debian.gz"} <= paths


def test_the_copyright_is_the_archives_licence_with_no_empty_line_in_it() -> None:
    text = text_of(tree_of("pypy3.11"), "usr/share/doc/pypy3.11/copyright")

    assert text.endswith("License: MIT\n The MIT License\n .\n Permission is hereby granted.\n")
    assert "pypy3.11-v7.3.23-linux64.tar.zst" in text


def test_files_are_placed_below_the_prefix_and_documents_where_debian_has_them() -> None:
    subject = make_subject()
    files = (Entry(path="README.rst", content=b"read"), Entry(path="bin/pypy", link="pypy3.11"))

    assert placed(subject, "pypy3.11", files)[1] == Entry(path=f"{ROOT}/bin/pypy", link="pypy3.11")
    documents = placed(subject, "pypy3.11-doc", files[:1])
    assert documents == (Entry(path="usr/share/doc/pypy3.11-doc/README.rst", content=b"read"),)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"#!/usr/bin/env python3\n", b"#!/usr/lib/rpython/pypy3.11/bin/pypy3.11\n"),
        (b"#! /usr/local/bin/python\n", b"#!/usr/lib/rpython/pypy3.11/bin/pypy3.11\n"),
        (b"#!/bin/sh\n", b"#!/bin/sh\n"),
        (b"# about python\n", b"# about python\n"),
    ],
)
def test_python_scripts_are_run_by_the_packages_own_python(
    tmp_path: Path, first: bytes, expected: bytes
) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(first + b"pass\n")

    (entry,) = placed(make_subject(), "pypy3.11", [Entry(path="lib/module.py", content=path)])

    content = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
    assert content == expected + b"pass\n"


def test_debug_symbols_are_where_debuggers_look_by_build_id(tmp_path: Path) -> None:
    entry = debug_file("97c3ea09", tmp_path)

    assert entry.path == "usr/lib/debug/.build-id/97/c3ea09.debug"


def test_the_installed_size_counts_begun_kibibytes_and_one_for_a_link() -> None:
    entries = [
        Entry(path="a", content=b""),
        Entry(path="b", content=b"x"),
        Entry(path="c", content=b"x" * 1025),
        Entry(path="d", link="a"),
    ]

    assert installed_size(entries) == 1 + 1 + 2 + 1


def test_md5sums_name_every_installed_file_but_no_link() -> None:
    module = Entry(path=f"{ROOT}/lib/pypy3.11/os.py", content=b"pass\n")

    tree = tree_of("pypy3.11", (module,))

    lines = text_of(tree, "DEBIAN/md5sums").splitlines()
    sums = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    files = {e.path for e in tree if e.link is None and not e.path.startswith("DEBIAN/")}
    assert set(sums) == files
    assert sums[module.path] == hashlib.md5(b"pass\n", usedforsecurity=False).hexdigest()


def test_overrides_are_in_their_package_with_their_reason() -> None:
    override = LintianOverride(package="pypy3.11-dev", tag="some-tag", reason="It is right.")
    job = make_pypy_job()
    assert job.interpreter.debian is not None
    subject = make_subject(job, config=changed(job.interpreter.debian, overrides=(override,)))

    tree = completed(subject, "pypy3.11-dev", (), ())
    other = completed(subject, "pypy3.11-venv", (), ())

    text = text_of(tree, "usr/share/lintian/overrides/pypy3.11-dev")
    assert text == "# It is right.\npypy3.11-dev: some-tag *\n"
    assert not any("lintian" in entry.path for entry in other)


def test_a_stanza_is_one_that_apts_lists_take() -> None:
    control = control_of(tree_of("pypy3.11-venv"))

    package = BinaryPackage(
        filename="pypy3.11-venv_7.3.23-1.deb12_amd64.deb",
        suite="bookworm",
        platform="linux-x86_64",
        architecture="amd64",
        name="pypy3.11-venv",
        package_version="7.3.23-1~deb12",
        control=control,
        size=1,
        sha256=digest("deb"),
    )
    assert package.control.startswith("Package: pypy3.11-venv\nSource: pypy3.11\n")


def test_a_nightlys_packages_have_its_number_and_day_in_their_version() -> None:
    subject = make_subject(make_nightly_job())

    assert subject.version == "7.3.23+nightly188288.20261125.194f9f44b505-1~deb12"
    assert "A nightly." in changelog(subject)


@pytest.mark.parametrize("channel", ["release", "nightly"])
def test_what_is_built_has_the_names_that_the_plan_says(channel: Channel) -> None:
    config = make_config()
    suites = tuple(config.suites)
    table = changed(getattr(config.channels, channel), apt=AptConfig(suites=suites))
    config = changed(config, channels=changed(config.channels, **{channel: table}))
    (job,) = make_plan_for(config, channel=channel, day=date(2026, 11, 25)).jobs

    built = [
        package_filename(name, subject.version, subject.architecture)
        for suite in suites
        for subject in [make_subject(job, suite=config.suites[suite])]
        for name in subject.config.names
    ]

    assert built == list(job.debian_files) != []


def test_the_changelog_is_of_the_sources_time_and_tells_the_release_notes(
    check_golden: CheckGolden,
) -> None:
    notes = "# 7.3.23\n\n- The first change,\n  on two lines.\n- Another one.\n\nMore text.\n"
    subject = make_subject(notes=notes)

    check_golden("debian/changelog", changelog(subject).encode())


def test_the_packed_changelog_has_no_time_of_its_own() -> None:
    path = "usr/share/doc/pypy3.11-doc/changelog.Debian.gz"
    (packed,) = (e.content for e in tree_of("pypy3.11-doc") if e.path == path)
    assert isinstance(packed, bytes)

    assert packed[4:8] == bytes(4)
    assert gzip.decompress(packed).decode() == changelog(make_subject())


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("", []),
        ("No bullet.\n", []),
        ("* one\n* two\n", ["one", "two"]),
        ("- one\n  goes on\n\n## Next\ntext\n- two\n", ["one goes on", "two"]),
    ],
)
def test_release_notes_are_told_by_their_bullets(notes: str, expected: list[str]) -> None:
    assert list(noted_changes(notes)) == expected
