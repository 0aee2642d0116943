"""Options that several verbs have, and how their values are read."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from pipeline.effects.console import Console
from pipeline.model.configs import Channel
from pipeline.model.naming import release_name
from pipeline.model.platforms import Mode
from pipeline.model.versions import InterpreterVersion

NATIVE: Final = "native"
INTERRUPTED: Final = 130
LONGEST_REASON: Final = 1000
LARGEST_PORT: Final = 65535

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - no other name
RunVerb: TypeAlias = Callable[[argparse.Namespace, Console], int]


def add_verb(verbs: Verbs, name: str, summary: str, run: RunVerb) -> argparse.ArgumentParser:
    """Add a verb with the options that all have, and return its parser."""
    parser = verbs.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--configs",
        type=Path,
        default=Path("translation_configs"),
        metavar="DIR",
        help="the configuration; dockerfiles/ and packaging/ are beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out"),
        metavar="DIR",
        help="where everything is written (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="also log every process started")
    return parser


def add_examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Show command lines below a verb's options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(("examples:", *(f"  python -m pipeline {line}" for line in lines)))


def add_selection(parser: argparse.ArgumentParser, *, channel: Channel | None) -> None:
    """Add the options that say what is built."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="interpreters (demo) or identifiers (demo-linux-x86_64); default: the channel's",
    )
    if channel is None:
        parser.add_argument(
            "--channel", choices=("release", "nightly"), default="release", help="default: release"
        )
    else:
        parser.set_defaults(channel=channel)
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        help="only this one, or all of an interpreter's; repeatable",
    )
    parser.add_argument(
        "--interpreter-version",
        "--pypy-version",
        type=interpreter_version,
        metavar="A.B.C[rcN]",
        help="instead of the version in the interpreter's config",
    )
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="a local source, for a nightly of one's own"
    )
    parser.add_argument(
        "--mode",
        type=Mode,
        choices=tuple(Mode),
        help="how to translate, instead of the best way that platforms.toml has for this worker",
    )
    add_engines(parser)
    add_store(parser)


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where work is done."""
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        type=_engine_address,
        metavar="PLATFORM=URL",
        help="send a platform's work to another engine (linux-aarch64=ssh://host), or with "
        f"{NATIVE} for URL do it without containers; repeatable",
    )


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which channel is meant."""
    parser.add_argument(
        "--channel", choices=("release", "nightly"), default="release", help="default: release"
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that name another store than the channel's."""
    parser.add_argument("--store", metavar="DIR", help="instead of the channel's store")
    parser.add_argument("--base-url", metavar="URL", help="instead of the channel's base_url")


def add_dry_run(parser: argparse.ArgumentParser, summary: str) -> None:
    """Add the option of verbs that change something."""
    parser.add_argument("--dry-run", action="store_true", help=summary)


def add_release(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name one published release."""
    parser.add_argument(
        "release",
        metavar="RELEASE",
        help="its name (pypy3.11-v7.3.21, or a nightly's), or an interpreter with VERSION",
    )
    parser.add_argument(
        "version", nargs="?", type=interpreter_version, metavar="VERSION", help="A.B.C[rcN]"
    )


def named_release(arguments: argparse.Namespace) -> str:
    """Return the name of the release that was named."""
    if arguments.version is None:
        return str(arguments.release)
    return release_name(arguments.release, arguments.version)


def reason(text: str) -> str:
    """Read why something is done; it becomes public."""
    stripped = text.strip()
    if not 0 < len(stripped) <= LONGEST_REASON:
        msg = f"a reason has 1 to {LONGEST_REASON} characters"
        raise argparse.ArgumentTypeError(msg)
    if not stripped.isprintable():
        msg = "a reason is one line of text: it has a character that cannot be shown, or no UTF-8"
        raise argparse.ArgumentTypeError(msg)
    return stripped


def port(text: str) -> int:
    """Read the number of a TCP port; 0 is any that is free."""
    if not (text.isdecimal() and int(text) <= LARGEST_PORT):
        msg = f"{text} is no port: 0 to {LARGEST_PORT}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def interpreter_version(text: str) -> InterpreterVersion:
    """Read a version as an option's value."""
    try:
        return InterpreterVersion.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _engine_address(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if not name or not (address == NATIVE or "://" in address):
        msg = f"{text!r} is not PLATFORM=URL, as in linux-aarch64=ssh://host, or PLATFORM={NATIVE}"
        raise argparse.ArgumentTypeError(msg)
    return name, address
