"""Unit tests start no process, use no network and do not wait; whoever tries fails here."""

import os
from typing import Any, NoReturn

import pytest
from hypothesis import settings

# The machine may be busy with a translation, so no example has a deadline.
settings.register_profile("unit", deadline=None, max_examples=60)
# For a run that asks something else than whether the properties hold.
settings.register_profile("few", deadline=None, max_examples=2)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))

FORBIDDEN = ("subprocess.Popen", "socket.socket.connect", "time.sleep")


@pytest.fixture(autouse=True)
def no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything raise that a unit test must not do."""
    for name in FORBIDDEN:
        monkeypatch.setattr(name, _refusing(name))
    # What a power cut would leave is not tried here, and waiting for the disk takes longest.
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def _refusing(name: str) -> Any:
    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        pytest.fail(f"a unit test called {name}; pass a fake instead")

    return refuse
