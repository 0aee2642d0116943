"""What GitHub does with a workflow, as far as a test needs it: steps in order, outputs, artifacts.

Scripts are those of the workflow itself, run by bash as a runner does. Actions are replaced by what
they do for the scripts: checking out is a copy, artifacts are directories.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.workflows import Step, WorkflowJob

ROOT: Final = Path(__file__).parents[2]
BASH: Final = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
EXPRESSION: Final = re.compile(r"\$\{\{ ([a-zA-Z_.-]+) \}\}")
CHECKED_OUT: Final = (
    *("pipeline", "translation_configs", "dockerfiles", "packaging", ".github"),
    *("pyproject.toml", "uv.lock"),
)
SUDO: Final = """#!/bin/sh
# What sudo does for who is root already.
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
LONGEST: Final = 1800
# What the environment of the tests must not say in a runner's place.
OWN: Final = frozenset({"GNUPGHOME", "PYTHONPATH", "VIRTUAL_ENV"})


@dataclass(kw_only=True)
class Hosting:
    """One run of a workflow: its artifacts, by name, and what expressions stand for."""

    root: Path
    known: dict[str, str]
    artifacts: dict[str, Path] = field(default_factory=dict)

    def machine(self, name: str, prepare: Callable[[Path], None]) -> "Machine":
        """Return a fresh machine with the repository; *prepare* may change the copy."""
        made = Machine(hosting=self, root=self.root / name)
        made.work.mkdir(parents=True)
        for item in CHECKED_OUT:
            source, copy = ROOT / item, made.work / item
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, copy)
        prepare(made.work)
        made.set_up()
        return made

    def value(self, text: str, more: Mapping[str, str]) -> str:
        """Return *text* with its expressions replaced; an unknown name is nothing, as GitHub's."""
        known = {**self.known, **more}
        return EXPRESSION.sub(lambda found: known.get(found[1], ""), text)

    def upload(self, name: str, directory: Path) -> None:
        """Keep a directory's files; what is hidden is left out, and a name is given once."""
        assert name not in self.artifacts, name
        kept = self.root / "artifacts" / name
        shutil.copytree(directory, kept, ignore=shutil.ignore_patterns(".*"))
        self.artifacts[name] = kept

    def download(self, names: list[str], directory: Path) -> None:
        """Unpack artifacts: into directories of their names, unless there is one only."""
        for name in names:
            place = directory if len(names) == 1 else directory / name
            shutil.copytree(self.artifacts[name], place, dirs_exist_ok=True)


@dataclass(kw_only=True)
class Machine:
    """A runner: a work tree, a home, and a Python as ``setup-python`` leaves it."""

    hosting: Hosting
    root: Path
    printed: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """Where the repository is checked out."""
        return self.root / "work"

    def set_up(self) -> None:
        """Make what a runner has before the first script."""
        programs = self.root / "programs"
        for directory in (programs, self.root / "home", self.root / "temp"):
            directory.mkdir()
        (programs / "sudo").write_text(SUDO, encoding="utf-8")
        (programs / "sudo").chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", self.root / "python"], check=True)

    def run(self, job: WorkflowJob, **matrix: str) -> dict[str, str]:
        """Run a job's steps in their order; return what they said as outputs, by step and name."""
        more = {f"matrix.{name}": value for name, value in matrix.items()}
        for number, step in enumerate(job.steps):
            if "ref_protected" in step.condition:
                continue
            said = self._act(step, more) if step.uses else self._script(number, step, more)
            more |= {f"steps.{step.identifier}.outputs.{name}": it for name, it in said.items()}
        return {
            name: self.hosting.value(text, more)
            for name, text in job.said.get("outputs", {}).items()
        }

    def _script(self, number: int, step: Step, more: Mapping[str, str]) -> dict[str, str]:
        output, script = self.root / f"output-{number}", self.root / f"script-{number}.sh"
        output.touch()
        script.write_text(step.run, encoding="utf-8")
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=self.work,
            env={**self._environment(step, more), "GITHUB_OUTPUT": str(output)},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        self.printed.append(done.stdout + done.stderr)
        assert done.returncode == 0, f"{step.name}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return dict(line.split("=", 1) for line in output.read_text("utf-8").splitlines())

    def _environment(self, step: Step, more: Mapping[str, str]) -> dict[str, str]:
        programs = (self.root / "programs", self.root / "python" / "bin")
        outside = {name: it for name, it in os.environ.items() if name not in OWN}
        return {
            **outside,
            "CI": "true",
            "HOME": str(self.root / "home"),
            "PATH": ":".join((*map(str, programs), os.environ["PATH"])),
            "RUNNER_TEMP": str(self.root / "temp"),
            "UV_CACHE_DIR": str(self.hosting.root / "uv"),
            "UV_PYTHON_PREFERENCE": "only-system",
            **{name: self.hosting.value(text, more) for name, text in step.environment.items()},
        }

    def _act(self, step: Step, more: Mapping[str, str]) -> dict[str, str]:
        inputs = {name: self.hosting.value(str(it), more) for name, it in step.inputs.items()}
        match step.uses.partition("@")[0]:
            case "actions/checkout" | "actions/setup-python":
                return {}
            case "actions/upload-artifact":
                self.hosting.upload(inputs["name"], self.work / inputs["path"])
                return {"artifact-id": inputs["name"]}
            case "actions/download-artifact":
                pattern = inputs.get("pattern", "").removesuffix("*")
                names = [it for it in self.hosting.artifacts if pattern and it.startswith(pattern)]
                chosen = names or [inputs["artifact-ids"]]
                self.hosting.download(chosen, self.work / inputs["path"])
                return {}
            case other:
                raise AssertionError(other)
