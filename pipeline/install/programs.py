"""Runs what must work wherever a real client has installed the interpreter."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.effects.process import Completed
from pipeline.errors import InstallError
from pipeline.model.install import Client, InstallTest

Run = Callable[[tuple[str, ...], int], Completed]
"""Runs a command as an ordinary user, for at most so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An installation: by which *client*, where, with which Debian *parts* (by suffix).

    ``parts`` is None where everything is there always. ``factor`` is how many times as long as
    the config says a command may take.
    """

    client: Client
    where: str
    run: Run
    parts: tuple[str, ...] | None = None
    factor: int = 1


def run_tests(tests: Iterable[InstallTest], place: Place) -> Iterator[str]:
    """Run those of *tests* that are for *place*; yield the name of each that passed.

    Raises:
        InstallError: one did not do what it must.
    """
    for test in tests:
        if _fits(test, place):
            done = place.run(test.argv, test.timeout * place.factor)
            if fault := _fault(test, done):
                msg = (
                    f"{place.where}: what {place.client} installed: {' '.join(test.argv)}: {fault}"
                )
                raise InstallError(msg)
            yield test.name


def _fits(test: InstallTest, place: Place) -> bool:
    if test.clients and place.client not in test.clients:
        return False
    return place.parts is None or set(test.parts) <= set(place.parts)


def _fault(test: InstallTest, done: Completed) -> str | None:
    """Return what is wrong with what a test did, or None."""
    if done.status != 0:
        return f"status {done.status}: {done.last_lines}"
    if test.stdout is not None and done.text != test.stdout:
        return f"wrote {done.text[-400:]!r}, not {test.stdout!r}"
    lacking = [text for text in test.stdout_contains if text not in done.text]
    return f"wrote {done.text[-400:]!r}, without {lacking}" if lacking else None
