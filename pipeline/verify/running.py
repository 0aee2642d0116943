"""Gates that run the archive in clean containers, unpacked under a path with a blank.

Ids ``RUN..`` and ``OPT..``. The proofs read the logs that every RPython binary can write
(``PYPYLOG=category:file``): a JIT logs each loop it compiles, incminimark each of its steps.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from pipeline.effects.archives import Entry, Owner, entries_of, write_archive
from pipeline.effects.console import Step
from pipeline.effects.context import Context
from pipeline.effects.engine import Session
from pipeline.effects.process import Completed
from pipeline.errors import CommandError
from pipeline.model.configs import InterpreterConfig, OptionProofs, PyPyPackage, SmokeTest
from pipeline.model.layout import extension_suffix, program_path
from pipeline.model.records import Environment
from pipeline.plan import Job
from pipeline.source.runner import add_to_toolchain
from pipeline.source.tree import kept_entries
from pipeline.verify.gates import Finding, Gate, Verdict

PLACE: Final = "/tmp/verify"  # noqa: S108 - in a container of our own
UNPACKED: Final = f"{PLACE}/un packed"
TESTS: Final = f"{PLACE}/tests"
TOOLCHAIN: Final = f"{PLACE}/toolchain"
SCRATCH: Final = f"{PLACE}/scratch"
LOG: Final = f"{PLACE}/log"
TESTER: Final = Owner(uid=1000, gid=1000)
SHOWN: Final = 400
JIT_SECTION: Final = "jit-log-opt-loop"
JIT_CATEGORIES: Final = "jit-log-opt,jit-summary"
# Sections that only this collector writes, and those of every generational one.
GC_SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "incminimark": ("gc-minor", "gc-collect-step"),
    "minimark": ("gc-minor", "gc-collect"),
}

IMPORT_TIMEOUT: Final = 300
# For Python 2.7 and 3; a line for each module that cannot be imported.
IMPORTER: Final = """
import importlib, sys
failed = 0
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed = 1
        sys.stdout.write("%s: %s: %s\\n" % (name, type(error).__name__, error))
sys.exit(failed)
"""

_JSON_OBJECT: Final = TypeAdapter(dict[str, Any])
_MODULE_OPTION: Final = re.compile(r"--with(?P<without>out)?mod-(?P<module>\w+)")
BOOLEANS: Final[Mapping[str, object]] = {"True": True, "False": False}
_SECTION: Final = re.compile(r"\{([a-z0-9-]+)\s*$")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An archive unpacked in a running clean container."""

    job: Job
    archive: str
    environment: str
    session: Session
    tests: Path

    def run(
        self, argv: tuple[str, ...], *, timeout: int, environment: Mapping[str, str] | None = None
    ) -> Completed:
        """Run *argv* with its ``{root}``, ``{tests}`` and ``{scratch}`` filled in."""
        places = {
            "{root}": f"{UNPACKED}/{self.job.stem}",
            "{tests}": TESTS,
            "{toolchain}": TOOLCHAIN,
            "{scratch}": SCRATCH,
        }
        return self.session.call(
            tuple(_replaced(word, places) for word in argv),
            timeout=timeout * self.job.run_factor,
            environment=environment,
            directory=SCRATCH,
        )


def _replaced(word: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


@contextmanager
def installed(
    ctx: Context, job: Job, archive: Path, environment: Environment, step: Step
) -> Iterator[Installed]:
    """Unpack *archive* with the container's own tar, and copy the test files beside it.

    Raises:
        CommandError: the archive cannot be unpacked there.
    """
    tests = Path(ctx.config.root) / job.interpreter.verify.test_files
    with tempfile.TemporaryDirectory(prefix="rpp-") as temporary:
        inputs, toolchain = Path(temporary, "in.tar"), Path(temporary, "toolchain")
        for name in job.interpreter.verify.toolchain:
            toolchain.mkdir(exist_ok=True)
            add_to_toolchain(ctx, ctx.config.pins[name], toolchain, step)
        entries = [
            Entry(path=f"verify/{archive.name}", content=archive),
            Entry(path="verify/un packed", directory=True),
            Entry(path="verify/scratch", directory=True),
            *_test_entries(ctx, job),
            *entries_of(toolchain, "verify/toolchain"),
        ]
        write_archive(inputs, entries, epoch=job.revision.epoch, owner=TESTER)
        with ctx.engine.session(environment.image_id) as session:
            session.copy_into(inputs, "/tmp")  # noqa: S108 - in the container
            unpacked = session.call(("tar", "-xf", f"{PLACE}/{archive.name}", "-C", UNPACKED))
            if unpacked.status != 0:
                msg = f"{archive.name}: tar in {environment.name}: {unpacked.last_lines}"
                raise CommandError(msg)
            yield Installed(
                job=job,
                archive=archive.name,
                environment=environment.name,
                session=session,
                tests=tests,
            )


def _test_entries(ctx: Context, job: Job) -> Iterator[Entry]:
    for name, directory in test_directories(job.interpreter).items():
        yield from kept_entries(Path(ctx.config.root) / directory, f"verify/{name}")


def test_directories(interpreter: InterpreterConfig) -> dict[str, str]:
    """Return the directories of ``translation_configs/`` that are copied, by their new places."""
    rules = interpreter.verify
    more = {f"tests/{name}": directory for name, directory in rules.more_files.items()}
    return {"tests": rules.test_files, **more}


def smoke_gates(tests: Iterable[SmokeTest], environment: str) -> tuple[Gate[Installed], ...]:
    """Return the gates that *tests* are, of those which run in *environment*; one per id."""
    by_gate: dict[str, list[SmokeTest]] = {}
    for test in tests:
        if not test.environments or environment in test.environments:
            by_gate.setdefault(test.gate, []).append(test)
    return tuple(_smoke_gate(gate, tuple(by_gate[gate])) for gate in sorted(by_gate))


def _smoke_gate(identifier: str, tests: tuple[SmokeTest, ...]) -> Gate[Installed]:
    def check(subject: Installed) -> Verdict:
        findings = [finding for test in tests for finding in _smoke_findings(subject, test)]
        count = f"{len(tests)} smoke test{'s' if len(tests) > 1 else ''}"
        return Verdict(measured=f"{count} in {subject.environment}", findings=tuple(findings))

    title = ", ".join(test.name for test in tests)
    return Gate(identifier=identifier, title=f"runs: {title}", check=check)


def _smoke_findings(subject: Installed, test: SmokeTest) -> Iterator[Finding]:
    done = subject.run(test.argv, timeout=test.timeout)
    where = f"{subject.archive} in {subject.environment}: smoke test {test.name}"
    if done.status != test.status:
        found = f"exit status {done.status}: {done.last_lines[-SHOWN:]}"
        yield Finding(file=where, found=found, expected=f"exit status {test.status}")
    expected = _expected_output(subject.tests, test)
    if expected is not None and done.text != expected:
        found = f"output {done.text[:SHOWN]!r}"
        yield Finding(file=where, found=found, expected=repr(expected[:SHOWN]))
    for text in test.stderr_contains:
        if text not in done.stderr.decode(errors="replace"):
            found = f"message {done.last_lines[-SHOWN:]!r}"
            yield Finding(file=where, found=found, expected=f"one with {text!r}")


def _expected_output(tests: Path, test: SmokeTest) -> str | None:
    if test.stdout_file is not None:
        return (tests / test.stdout_file).read_text(encoding="utf-8")
    return test.stdout


def _options(subject: Installed) -> Verdict:
    """Compare the options that the binary says it was translated with to the config's."""
    proofs = subject.job.interpreter.verify.proofs
    where = f"{subject.archive}: {' '.join(proofs.info)}"
    done = subject.run(proofs.info, timeout=proofs.timeout)
    told = _told_options(done.text)
    expected = list(expected_options(subject.job))
    findings = tuple(
        Finding(
            file=where,
            found=f"{key} is {told[key]!r}" if key in told else f"nothing said of {key}",
            expected=f"{key} {value!r}",
        )
        for key, value in expected
        if key not in told or not _is_same(told[key], value)
    )
    findings += tuple(_failure(where, done))
    proved = " ".join(f"{key}={told.get(f'translation.{key}')}" for key in ("gc", "jit"))
    return Verdict(measured=f"{proved}, {len(expected)} options", findings=findings)


def _is_same(told: object, expected: object) -> bool:
    """Whether two values of JSON are equal; Python also takes True for 1."""
    return type(told) is type(expected) and told == expected


def _told_options(text: str) -> dict[str, object]:
    """Read ``sys.pypy_translation_info`` as JSON, or lines ``gc=...`` and ``jit=...`` of it."""
    try:
        return dict(_JSON_OBJECT.validate_json(text))
    except ValidationError:
        lines = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return {f"translation.{key}": BOOLEANS.get(value, value) for key, value in lines}


def expected_options(job: Job) -> Iterator[tuple[str, object]]:
    """Yield what ``sys.pypy_translation_info`` must have, from every place that says so.

    A key is given twice where two places of the config do; unless they agree, one is found wrong.
    """
    translation = job.interpreter.translation
    yield "translation.gc", translation.gc
    yield "translation.jit", job.jit
    for option in translation.target_options:
        if found := _MODULE_OPTION.fullmatch(option):
            yield f"objspace.usemodules.{found['module']}", found["without"] is None
    yield from job.interpreter.verify.translation_info.items()


def _failure(where: str, done: Completed) -> Iterator[Finding]:
    """Yield a finding if a command failed, whatever it had written before."""
    if done.status != 0:
        found = f"exit status {done.status}: {done.last_lines[-SHOWN:]}"
        yield Finding(file=where, found=found, expected="exit status 0")


def _jit(subject: Installed) -> Verdict:
    """A hot loop must be compiled, or without a JIT must not be."""
    sections, failure = _logged(subject, subject.job.interpreter.verify.proofs.jit, JIT_CATEGORIES)
    loops = sections[JIT_SECTION]
    measured = f"{loops} loops compiled"
    findings = list(failure)
    if not failure and (loops > 0) != subject.job.jit:
        expected = "at least one, since jit = true" if subject.job.jit else "none, without a JIT"
        findings = [Finding(file=f"{subject.archive}: jit log", found=measured, expected=expected)]
    return Verdict(measured=measured, findings=tuple(findings))


def _gc(subject: Installed) -> Verdict:
    """The configured collector must show itself in its log."""
    gc = subject.job.interpreter.translation.gc
    if gc not in GC_SECTIONS:
        finding = Finding(
            file=f"{subject.archive}: gc log",
            found=f"no proof is known for {gc}",
            expected=f"one of {', '.join(GC_SECTIONS)}",
        )
        return Verdict(measured="", findings=(finding,))
    sections, failure = _logged(subject, subject.job.interpreter.verify.proofs.gc, "gc")
    expected = GC_SECTIONS[gc]
    measured = ", ".join(f"{sections[name]} {name}" for name in expected) or "nothing to show"
    findings = list(failure) or [
        Finding(file=f"{subject.archive}: gc log", found=f"no section {name}", expected=f"{gc}'s")
        for name in expected
        if not sections[name]
    ]
    return Verdict(measured=measured, findings=tuple(findings))


def _logged(
    subject: Installed, argv: tuple[str, ...], categories: str
) -> tuple[Counter[str], list[Finding]]:
    """Run *argv* with RPython's log on; count the log's sections by name."""
    proofs: OptionProofs = subject.job.interpreter.verify.proofs
    done = subject.run(argv, timeout=proofs.timeout, environment={"PYPYLOG": f"{categories}:{LOG}"})
    log = subject.session.call(("cat", LOG))
    if done.status != 0 or log.status != 0:
        problem = done if done.status != 0 else log
        finding = Finding(
            file=f"{subject.archive}: {' '.join(argv)} with PYPYLOG={categories}",
            found=f"exit status {problem.status}: {problem.last_lines[-SHOWN:]}",
            expected="success and a log",
        )
        return Counter(), [finding]
    subject.session.call(("rm", "-f", LOG))
    found = (_SECTION.search(line) for line in log.text.splitlines())
    return Counter(match[1] for match in found if match), []


def _report(subject: Installed) -> Verdict:
    """What the interpreter says of itself is what was asked for."""
    rules, job = subject.job.interpreter.verify, subject.job
    where = f"{subject.archive}: {' '.join(rules.report)}"
    done = subject.run(rules.report, timeout=rules.proofs.timeout)
    try:
        told = dict(_JSON_OBJECT.validate_json(done.stdout))
    except ValidationError:
        found = f"exit status {done.status}: {done.last_lines[-SHOWN:]}"
        return Verdict(
            measured="", findings=(Finding(file=where, found=found, expected="a JSON object"),)
        )
    expected = expected_report(job)
    findings = tuple(
        Finding(file=where, found=f"{key} is {told.get(key)!r}", expected=repr(value))
        for key, value in expected.items()
        if told.get(key) != value
    )
    findings += tuple(_failure(where, done))
    return Verdict(measured=str(told.get("version")).replace("\n", " "), findings=findings)


def expected_report(job: Job) -> dict[str, object]:
    """Return what the interpreter of *job* must say of itself."""
    version, package = job.version, job.interpreter.package
    expected: dict[str, object] = {
        "implementation": job.interpreter.implementation,
        "interpreter_version": [*version[:3], version.level.name.lower(), version.serial],
        "version_line": f"PyPy {version.in_headers}",
        "language_version": job.language_version,
        "revision": job.revision.short,
        "machine": job.platform.machine,
    }
    if isinstance(package, PyPyPackage):
        expected["extension_suffix"] = extension_suffix(package, version, job.platform)
    return expected


def _modules(subject: Installed) -> Verdict:
    """Import everything that the packager was to build; one command tries all modules."""
    package = subject.job.interpreter.package
    wanted = wanted_imports(subject.job.interpreter, subject.environment)
    if not isinstance(package, PyPyPackage) or not wanted:
        return Verdict(measured="none")
    program = f"{{root}}/{program_path(package.executable, subject.job.platform)}"
    done = subject.run((program, "-W", "ignore", "-c", IMPORTER, *wanted), timeout=IMPORT_TIMEOUT)
    where = f"{subject.archive} in {subject.environment}: imports"
    failed = [line for line in done.text.splitlines() if line]
    if done.status != 0 and not failed:
        failed = [f"exit status {done.status}: {done.last_lines[-SHOWN:]}"]
    findings = tuple(
        Finding(file=where, found=line[:SHOWN], expected="that it is imported") for line in failed
    )
    measured = f"{len(wanted)} extension modules in {subject.environment}"
    return Verdict(measured=measured, findings=findings)


def wanted_imports(interpreter: InterpreterConfig, environment: str) -> tuple[str, ...]:
    """Return the modules that must be importable in *environment*."""
    package, only_in = interpreter.package, interpreter.verify.modules_only_in
    if not isinstance(package, PyPyPackage):
        return ()
    return tuple(
        name
        for module, names in package.modules.items()
        if environment in only_in.get(module, (environment,))
        for name in names
    )


MODULES_GATE: Final[Gate[Installed]] = Gate(
    identifier="MOD01", title="extension modules are imported", check=_modules
)

REPORT_GATE: Final[Gate[Installed]] = Gate(
    identifier="IDN03", title="the interpreter says who it is", check=_report
)

PROOF_GATES: Final[tuple[Gate[Installed], ...]] = (
    Gate(identifier="OPT01", title="translated with the configured options", check=_options),
    Gate(identifier="OPT02", title="the JIT compiles a hot loop", check=_jit),
    Gate(identifier="OPT03", title="the configured collector runs", check=_gc),
)
"""Run once, in the first clean environment."""
