"""What an installed package must do, whichever client installed it."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.model.base import Model, Name

Client = Literal["apt", "image"]
"""Those that install in a container; others are tried by this project's own tests."""


class InstallTest(Model):
    """A command that is run where a real client has installed the interpreter.

    ``parts`` are the Debian packages that must be installed for it, by their suffixes; where
    another client installed, everything is there. ``stdout`` is compared exactly,
    ``stdout_contains`` must all occur. ``clients`` are those whose installations are tried so;
    none named are all. ``timeout`` is in seconds.
    """

    name: Name
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    stdout: str | None = None
    stdout_contains: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    clients: tuple[Client, ...] = ()
    timeout: Annotated[int, Field(gt=0)] = 120
