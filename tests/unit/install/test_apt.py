"""Packages in a clean system: installed, tried, removed without a trace."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.effects.process import Completed
from pipeline.errors import InstallError
from pipeline.install.apt import AS_USER, Packages, System, try_packages
from pipeline.model.install import InstallTest

NEW = Packages(names=("toy=2", "toy-dev=2"), parts=("", "-dev"))
OLD = Packages(names=("toy=1",), parts=("",))
VERSION = InstallTest(name="version", argv=("toy", "--version"), stdout="toy 2\n")


class Debian:
    """A system whose files are known; it does what apt does, and forgets what a test says."""

    def __init__(self, *, leaves: str = "", failing: str = "") -> None:
        self.commands: list[tuple[str, ...]] = []
        self.timeouts: list[int] = []
        self.installed: list[str] = []
        self._leaves, self._failing = leaves, failing

    def copy_into(self, archive: Path, directory: str) -> None:
        """Take a file."""

    def call(
        self,
        argv: tuple[str, ...],
        *,
        timeout: int = 60,
        environment: Mapping[str, str] | None = None,  # noqa: ARG002
        directory: str = "/",  # noqa: ARG002
    ) -> Completed:
        """Do what a Debian would."""
        self.commands.append(argv)
        self.timeouts.append(timeout)
        if self._failing and self._failing in argv:
            return self._completed(argv, b"", 100, b"E: Unable to locate package toy")
        return self._completed(argv, self._done(argv).encode())

    def _done(self, argv: tuple[str, ...]) -> str:
        if "install" in argv:
            self.installed = [word for word in argv if "=" in word and word.startswith("toy")]
        if "purge" in argv:
            self.installed = []
        if argv[0] == "find":
            files = ["/etc/passwd", *(f"/usr/lib/{name}" for name in self.installed)]
            seen = any("purge" in command for command in self.commands)
            return "\n".join([*files, *([self._leaves] if seen and self._leaves else [])])
        return "toy 2\n" if argv[-2:] == ("toy", "--version") else ""

    @staticmethod
    def _completed(
        argv: tuple[str, ...], stdout: bytes, status: int = 0, stderr: bytes = b""
    ) -> Completed:
        return Completed(argv=argv, status=status, stdout=stdout, stderr=stderr)


def tried(debian: Debian, older: Packages | None = None, factor: int = 1) -> tuple[str, ...]:
    system = System(session=debian, where="clean-old", factor=factor)
    return try_packages(system, NEW, [VERSION], older)


def test_packages_are_installed_tried_and_purged() -> None:
    debian = Debian()

    assert tried(debian) == ("version", "purged")

    words = [" ".join(command) for command in debian.commands]
    order = ["update", "install --no-install-recommends toy=2 toy-dev=2", "--version"]
    order += ["purge toy toy-dev", "autoremove --purge"]
    places = [next(n for n, line in enumerate(words) if text in line) for text in order]
    assert places == sorted(places)


def test_an_older_version_is_installed_first_and_upgraded() -> None:
    debian = Debian()

    assert tried(debian, OLD) == ("upgraded", "version", "purged")

    installs = [command for command in debian.commands if "install" in command]
    assert [command[-1] for command in installs] == ["toy=1", "toy-dev=2"]


def test_what_only_the_older_version_had_is_purged_too() -> None:
    debian = Debian()

    tried(debian, Packages(names=("toy=1", "toy-doc=1"), parts=("", "-doc")))

    (purge,) = [command for command in debian.commands if "purge" in command]
    assert purge[purge.index("purge") + 1 :] == ("toy", "toy-dev", "toy-doc")


def test_programs_are_run_by_an_ordinary_user_who_knows_nothing_of_root() -> None:
    debian = Debian()

    tried(debian)

    (command,) = [item for item in debian.commands if item[-1] == "--version"]
    assert command[: len(AS_USER)] == AS_USER
    assert "--reset-env" in command


def test_what_is_left_after_a_purge_is_named() -> None:
    with pytest.raises(InstallError, match=r"toy, toy-dev there is left: \['/usr/lib/toys/x'\]"):
        tried(Debian(leaves="/usr/lib/toys/x"))


@pytest.mark.parametrize("failing", ["update", "show", "install", "purge", "autoremove"])
def test_a_step_that_fails_is_shown_with_what_apt_said(failing: str) -> None:
    with pytest.raises(InstallError) as caught:
        tried(Debian(failing=failing))

    assert "clean-old: apt-" in str(caught.value)
    assert "Unable to locate package toy" in str(caught.value)


def test_under_an_emulator_everything_may_take_longer() -> None:
    plain, slow = Debian(), Debian()

    tried(plain)
    tried(slow, factor=20)

    assert slow.timeouts == [timeout * 20 for timeout in plain.timeouts]
