"""The project's tasks; ``nox -l`` lists them. Arguments after ``--`` go to the command."""

from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "typecheck", "tests"]

PIPELINE = ("python", "-m", "pipeline")


def install(session: nox.Session, *groups: str, extra: str | None = None) -> None:
    """Install exactly what ``uv.lock`` pins into the session's environment."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--locked",
        "--no-default-groups",
        "--no-install-project",
        *(f"--group={group}" for group in groups),
        *([f"--extra={extra}"] if extra else []),
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


def pipeline(session: nox.Session, verb: str) -> None:
    """Run one verb of the pipeline with the session's arguments."""
    install(session)
    session.run(*PIPELINE, verb, *session.posargs)


@nox.session(tags=["release"])
def doctor(session: nox.Session) -> None:
    """Check whether this machine can do the work; --provision makes it able to."""
    pipeline(session, "doctor")


@nox.session(tags=["release"])
def plan(session: nox.Session) -> None:
    """Show every job, file name and URL, and do nothing."""
    pipeline(session, "plan")


@nox.session(tags=["release"])
def translate(session: nox.Session) -> None:
    """Translate with RPython in a container."""
    pipeline(session, "translate")


@nox.session(tags=["release"])
def package(session: nox.Session) -> None:
    """Make the archives, without network."""
    pipeline(session, "package")


@nox.session(tags=["release"])
def verify(session: nox.Session) -> None:
    """Check the archives' bytes by every gate."""
    pipeline(session, "verify")


@nox.session(tags=["release"])
def debian(session: nox.Session) -> None:
    """Make Debian packages of the verified archives."""
    pipeline(session, "debian")


@nox.session(tags=["release"])
def image(session: nox.Session) -> None:
    """Make OCI images of the verified archives."""
    pipeline(session, "image")


@nox.session(name="install-check", tags=["release"])
def install_check(session: nox.Session) -> None:
    """Install packages and images by real clients in clean containers; --published RELEASE."""
    pipeline(session, "install-check")


@nox.session(tags=["release"])
def sign(session: nox.Session) -> None:
    """Write the manifest, the provenance, SHA256SUMS and its signature."""
    pipeline(session, "sign")


@nox.session(tags=["release"])
def publish(session: nox.Session) -> None:
    """Put the files into the store and fetch them back; no event, no index."""
    pipeline(session, "publish")


@nox.session(tags=["release"])
def nightly(session: nox.Session) -> None:
    """Build and publish a nightly of the source as it is."""
    pipeline(session, "nightly")


@nox.session(tags=["release"])
def release(session: nox.Session) -> None:
    """Build and publish a release, from source to indexes."""
    pipeline(session, "release")


@nox.session(tags=["farm"])
def farm(session: nox.Session) -> None:
    """Run a whole farm on this machine: a master with its pages, a signer, two workers."""
    install(session, extra="farm")
    session.run(*PIPELINE, "farm", *session.posargs)


@nox.session(tags=["published"])
def status(session: nox.Session) -> None:
    """Show where every release and channel stands, and the next safe command."""
    pipeline(session, "status")


@nox.session(tags=["published"])
def promote(session: nox.Session) -> None:
    """Offer a staged release, or make a release of what a nightly was made of."""
    pipeline(session, "promote")


@nox.session(tags=["published"])
def yank(session: nox.Session) -> None:
    """Take a release back: clients get the one before, its files stay."""
    pipeline(session, "yank")


@nox.session(tags=["published"])
def unyank(session: nox.Session) -> None:
    """Offer a yanked release again."""
    pipeline(session, "unyank")


@nox.session(tags=["published"])
def prune(session: nox.Session) -> None:
    """Take away the files of nightlies that are older than the channel keeps."""
    pipeline(session, "prune")


@nox.session(tags=["published"])
def reconcile(session: nox.Session) -> None:
    """Make every index, mirror and file what the ledger says."""
    pipeline(session, "reconcile")


@nox.session(tags=["published"])
def bisect(session: nox.Session) -> None:
    """Find the first bad nightly with a script of yours."""
    pipeline(session, "bisect")


@nox.session(tags=["release"])
def serve(session: nox.Session) -> None:
    """Serve the store over HTTP, for trying out."""
    pipeline(session, "serve")


@nox.session(tags=["check"])
def lint(session: nox.Session) -> None:
    """Check style, spelling, layers, and that derived files are up to date."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("lint-imports", "--no-cache", silent=True)
    session.run(*PIPELINE, "schemas", "--check")
    session.run(*PIPELINE, "workflows", "--check")
    session.run("zizmor", "--offline", "--quiet", "--persona=auditor", ".github/workflows")


@nox.session(tags=["check"])
def typecheck(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    install(session, "typecheck", extra="farm")
    session.run("mypy")


@nox.session(tags=["check"])
def tests(session: nox.Session) -> None:
    """Run the unit tests: no network, no process, no clock."""
    install(session, "test", extra="farm")
    coverage = ("--cov", "--cov-report=term:skip-covered", "--cov-fail-under=95")
    session.run("pytest", *(session.posargs or coverage))


@nox.session(tags=["slow"])
def integration(session: nox.Session) -> None:
    """Run the tests that use a container engine, GnuPG, emulation and real clients."""
    install(session, "test", "lint", extra="farm")
    session.run("pytest", "tests/integration", "-p", "no:randomly", *session.posargs)


@nox.session(tags=["slow"])
def bench(session: nox.Session) -> None:
    """Measure the demo; `bench -- pypy ARCHIVE` a packaged PyPy, `bench -- translation ...`."""
    install(session)
    name, *arguments = session.posargs or ["demo"]
    script = str(Path("tests", "bench", f"bench_{name}.py"))
    session.run("python", script, *arguments, env={"PYTHONPATH": "."})


@nox.session(tags=["update"])
def schemas(session: nox.Session) -> None:
    """Write the JSON Schemas of the configuration from the models."""
    pipeline(session, "schemas")


@nox.session(tags=["update"])
def workflows(session: nox.Session) -> None:
    """Write the workflows of hosted CI from the plan."""
    pipeline(session, "workflows")


@nox.session(tags=["update"])
def lock(session: nox.Session) -> None:
    """Pin the newest allowed dependencies in uv.lock."""
    session.install("uv")
    session.run("uv", "lock", "--upgrade", external=True)
