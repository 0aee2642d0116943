"""A miniature upstream: a git repository with an interpreter, its packager and its release tag.

What the path from a git source through upstream's own packager needs of PyPy, at the size of the
demo interpreter, whose source it holds. ``tests/data/miniature/README.md`` lists the rest.
"""

import gzip
import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "tests" / "data" / "miniature"
DEMO: Final = ROOT / "translation_configs" / "demo"
EPOCH: Final = 1_779_753_600
TAG: Final = "release-mini-v1.0.0"
VERSION_FILE: Final = "pypy/module/sys/version.py"
FINAL: Final = '(1, 0, 0, "final", 0)'
ALPHA: Final = '(1, 0, 0, "alpha", 0)'
GOAL: Final = "pypy/goal"
ANSWER: Final = "answer-1.1"
PACKAGES: Final = (
    *("pypy", "pypy/module", "pypy/module/sys", "pypy/tool", "pypy/tool/release"),
    *("lib_pypy", "lib_pypy/pypy_tools"),
)


@dataclass
class Upstream:
    """A work tree whose commits are a minute apart."""

    directory: Path
    commits: int = 0

    @property
    def url(self) -> str:
        """The address to fetch from."""
        return self.directory.as_uri()

    @property
    def head(self) -> str:
        """The newest commit."""
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        """Run git in the work tree, with nothing of a person's own configuration."""
        who = ("AUTHOR", "COMMITTER")
        done = subprocess.run(
            ["git", "-C", str(self.directory), *arguments],
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_CONFIG_SYSTEM": "/dev/null",
                **{f"GIT_{name}_NAME": "Miniature" for name in who},
                **{f"GIT_{name}_EMAIL": "mini@mini.test" for name in who},
                **{f"GIT_{name}_DATE": f"{EPOCH + 60 * self.commits} +0200" for name in who},
            },
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Commit the work tree as it is, and return the commit."""
        self.commits += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message=number {self.commits}")
        return self.head

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file; what is replaced must be there."""
        path = self.directory / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new), encoding="utf-8")


def make_upstream(directory: Path) -> Upstream:
    """Make the repository: the same commits wherever it is made, the last one released."""
    made = Upstream(directory)
    shutil.copytree(
        DATA, directory, ignore=shutil.ignore_patterns(ANSWER, "README.md", "mini.toml")
    )
    for path in directory.rglob("*.py2"):
        path.rename(path.with_suffix(".py"))
    for name in PACKAGES:
        (directory / name / "__init__.py").touch()
    left_behind = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(DEMO / "demolang", directory / GOAL / "demolang", ignore=left_behind)
    shutil.copyfile(DEMO / "targetdemo.py", directory / GOAL / "targetdemo.py")
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    made.git("init", "--quiet", "--initial-branch=main")
    made.edit(VERSION_FILE, f"PYPY_VERSION = {FINAL}", f"PYPY_VERSION = {ALPHA}")
    made.commit()
    made.edit(VERSION_FILE, ALPHA, FINAL)
    made.commit()
    made.git("tag", "--annotate", f"--message={TAG}", TAG)
    return made


def answer_archive(header: str | None = None) -> bytes:
    """Return the source archive of the library, with another *header* if one is given."""
    made = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=made, mode="wb", filename="", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for path in sorted((DATA / ANSWER).iterdir()):
            text = path.read_text(encoding="utf-8")
            content = (header if header and path.suffix == ".h" else text).encode()
            member = tarfile.TarInfo(f"{ANSWER}/{path.name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()
