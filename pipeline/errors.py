"""Every way in which the pipeline can stop: one class and one exit code per cause.

A message says what happened, where (file and key, or job and stage) and what to do next.
The runner adds the stage and the identifier once, so messages do not repeat them.

Exit codes: 2 the command line, 3 several jobs failed, 10-19 input, 20-29 machine, 30-39 translation
and packaging, 40-49 verification, 50-59 signing, 60-69 publication, 70-79 the work directory,
80-89 the farm, 130 an interrupt.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import ClassVar


class PipelineError(Exception):
    """The pipeline cannot go on. Subclasses name the cause."""

    exit_code: ClassVar[int] = 1

    where: str | None = None
    """The stage and the identifier at work; the runner sets it, once."""


class ConfigError(PipelineError):
    """A file in ``translation_configs/`` is not what its schema asks for."""

    exit_code = 10


class UnknownNameError(PipelineError):
    """A name on the command line or in a config is not one that exists."""

    exit_code = 11

    def __init__(self, kind: str, name: str, allowed: Sequence[str], *, where: str) -> None:
        super().__init__(f"{where}: unknown {kind} {name!r}. {suggestion(name, allowed)}")


class DigestMismatchError(PipelineError):
    """A file is not the file whose digest is pinned or recorded."""

    exit_code = 12

    def __init__(self, where: str, *, expected: str, actual: str, remedy: str) -> None:
        super().__init__(f"{where}: sha256 is {actual}, expected {expected}. {remedy}")


class DownloadError(PipelineError):
    """A pinned input cannot be fetched."""

    exit_code = 13

    http_status: int | None = None
    """What a server answered, where one did."""


class SourceError(PipelineError):
    """A source tree cannot be assembled or is not fit for this channel."""

    exit_code = 14


class MissingToolError(PipelineError):
    """A program that a stage needs is not installed."""

    exit_code = 20

    def __init__(self, program: str, *, purpose: str, package: str) -> None:
        super().__init__(
            f"{program} is not on PATH; it is needed to {purpose}. Install {package} "
            f"(Debian, Ubuntu: apt-get install {package}), or as root run: "
            "python -m pipeline doctor --provision"
        )


class EngineUnavailableError(PipelineError):
    """No container engine answers."""

    exit_code = 21


class ImageError(PipelineError):
    """An image cannot be bootstrapped, pulled or built."""

    exit_code = 22


class PreflightError(PipelineError):
    """The machine is not fit for the work, found before the work began."""

    exit_code = 23


class CommandError(PipelineError):
    """A program ended with an error status."""

    exit_code = 24


class PlatformError(PipelineError):
    """A platform cannot be built on this worker."""

    exit_code = 25


class FarmExtraError(PipelineError):
    """What the farm runs on is not installed."""

    exit_code = 26

    def __init__(self, package: str, *, python: str) -> None:
        super().__init__(
            f"{python} has no {package}, which the farm runs on. In a checkout: "
            "uv sync --extra farm; elsewhere: pip install 'rpython-pipeline[farm]'. nox -s farm "
            "does it by itself."
        )


class DialError(PipelineError):
    """A worker cannot reach its master, or the master is not who it should be."""

    exit_code = 27


class FarmStartError(PipelineError):
    """A part of a farm on this machine does not start, or does not stay."""

    exit_code = 28


class TranslationError(PipelineError):
    """The RPython toolchain or the C compiler failed."""

    exit_code = 30


class StepTimeoutError(PipelineError):
    """A step took longer than its limit."""

    exit_code = 31


class StepSilentError(PipelineError):
    """A step wrote nothing for longer than its limit; it probably hangs."""

    exit_code = 32


class PackageError(PipelineError):
    """A translated tree lacks what its archive must hold."""

    exit_code = 33


class DebianPackageError(PipelineError):
    """Debian packages cannot be made of an archive."""

    exit_code = 36


class GateError(PipelineError):
    """A finished archive fails a gate, so it must not be released."""

    exit_code = 40


class UnsafeArchiveError(PipelineError):
    """An archive has a member that must never be unpacked."""

    exit_code = 41


class InstallError(PipelineError):
    """A real client cannot install what was made, or it does not work where it was installed."""

    exit_code = 42


class LintianError(PipelineError):
    """A Debian package violates Debian's policy, as lintian finds."""

    exit_code = 46


class SigningKeyError(PipelineError):
    """The signing key is missing, expired, about to expire, or another one than configured."""

    exit_code = 50


class SignatureError(PipelineError):
    """A signature does not verify."""

    exit_code = 51


class ImmutableNameError(PipelineError):
    """A public name already stands for other bytes."""

    exit_code = 60


class FetchBackError(PipelineError):
    """What the store gives back is not what was put there."""

    exit_code = 61


class LedgerError(PipelineError):
    """The ledger cannot be read, or is not one."""

    exit_code = 62


class ConflictError(PipelineError):
    """Another process changed the same object first, again and again."""

    exit_code = 63


class StoreError(PipelineError):
    """A store cannot be reached or written."""

    exit_code = 64


class UncertainError(StoreError):
    """A store's answer was lost, so it is not known whether it did what it was asked to."""

    exit_code = 65


class DestinationError(PipelineError):
    """A place that releases are copied to, such as GitHub, does not take one."""

    exit_code = 66


class EventError(PipelineError):
    """What is asked cannot happen to that release."""

    exit_code = 67


class BisectError(PipelineError):
    """The first bad nightly cannot be told."""

    exit_code = 68


class FormulaError(PipelineError):
    """A formula names a file that readers do not get as it was signed, so it is not written."""

    exit_code = 69


class TapError(PipelineError):
    """The repository of a Homebrew tap cannot be read or written."""

    exit_code = 72


class WorkdirBusyError(PipelineError):
    """Another run works in the same directory."""

    exit_code = 70


class RecordError(PipelineError):
    """A stage's record in the work directory cannot be read."""

    exit_code = 71


class DiskFullError(PipelineError):
    """There is no space left where something is to be written."""

    exit_code = 73


class DetachedError(PipelineError):
    """Work apart from its caller cannot be started, or ended without saying how."""

    exit_code = 74


class FarmError(PipelineError):
    """A farm cannot be reached, or does not answer as one."""

    exit_code = 80


class FarmLoginError(FarmError):
    """A farm does not let this user in, or nobody may log in there safely."""

    exit_code = 81


class ClaimError(PipelineError):
    """What a worker says it made is not what the plan asks for, or not what it handed over."""

    exit_code = 82


class UnitFailedError(PipelineError):
    """A worker could not do its part of a run."""

    exit_code = 83


class RunError(PipelineError):
    """A run is not known in the hand-over store, or is another one than is asked for."""

    exit_code = 84


class JobsFailedError(PipelineError):
    """Several independent jobs failed; each is listed."""

    exit_code = 3


def suggestion(name: str, allowed: Sequence[str]) -> str:
    """Return "Did you mean ...? Allowed: ..." for a wrong *name*."""
    close = get_close_matches(name, allowed, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(allowed) or 'none'}."
