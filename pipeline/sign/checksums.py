"""The ``SHA256SUMS`` file, in the form of GNU coreutils' ``sha256sum``. Pure.

A line is 64 hex digits, two blanks, the file name and a newline; readers that scrape it rely on
exactly two blanks and none at the end.
"""

from collections.abc import Iterable

from pipeline.model.artifacts import Artifact


def checksums_text(artifacts: Iterable[Artifact]) -> bytes:
    """Return the lines for *artifacts*, sorted by file name."""
    ordered = sorted(artifacts, key=lambda artifact: artifact.filename)
    return "".join(f"{item.sha256}  {item.filename}\n" for item in ordered).encode()


def parsed_checksums(text: str) -> dict[str, str]:
    """Return the digests of such a file, by file name."""
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in lines if name}
