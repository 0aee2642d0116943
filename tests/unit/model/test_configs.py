"""The schemas refuse what no stage could work with."""

from pathlib import PurePosixPath
from typing import Any, Final, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.model.configs import (
    GC_CHOICES,
    Base,
    Bootstrap,
    BootstrapBase,
    ChannelConfig,
    DirectorySource,
    GitSource,
    ImageBootstrap,
    InterpreterConfig,
    PackageConfig,
    Pin,
    PlainPackage,
    PyPyPackage,
    RegistryBase,
    ReleaseBootstrap,
    SigningConfig,
    Source,
)
from pipeline.model.platforms import OciNames, Platform
from tests.factories import (
    CONFIGS,
    changed,
    make_config,
    make_interpreter,
    make_pin,
    make_platform,
    make_pypy_package,
)

DIGEST = "a" * 64
AMD64: Final = {"architectures": ["amd64"]}


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("debian:bookworm", id="tag"),
        pytest.param("debian", id="bare"),
        pytest.param(f"debian@sha256:{DIGEST[:-1]}", id="short-digest"),
        pytest.param(f"debian @sha256:{DIGEST}", id="blank"),
        pytest.param(f"@sha256:{DIGEST}", id="no-name"),
    ],
)
def test_an_image_from_a_registry_is_named_by_digest_only(reference: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        RegistryBase(kind="registry", architectures=("amd64",), reference=reference)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"kind": "registry", "reference": f"debian@sha256:{DIGEST}", **AMD64}, RegistryBase),
        ({"kind": "bootstrap", "suite": "sid", "mirrors": ["http://m"], **AMD64}, BootstrapBase),
    ],
    ids=["registry", "bootstrap"],
)
def test_a_base_is_of_the_kind_that_it_says(data: dict[str, Any], kind: type) -> None:
    assert isinstance(TypeAdapter[Base](Base).validate_python(data), kind)


def test_a_bootstrapped_base_needs_a_mirror() -> None:
    with pytest.raises(ValidationError, match="mirrors"):
        BootstrapBase(kind="bootstrap", suite="bookworm", architectures=("amd64",), mirrors=())


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"url": "http://files.example/x"}, id="plain-http"),
        pytest.param({"url": "file:///etc/passwd"}, id="file-url"),
        pytest.param({"filename": "../x.tar.gz"}, id="filename-climbs"),
        pytest.param({"sha256": "0" * 63}, id="short-digest"),
        pytest.param({"size": 0}, id="empty"),
        pytest.param({"mirrors": ("http://mirror.example/x",)}, id="plain-http-mirror"),
    ],
)
def test_a_pin_that_fixes_nothing_is_refused(override: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_pin(**override)


@pytest.mark.parametrize("pin", make_config().pins.values(), ids=make_config().pins)
def test_every_address_of_a_shipped_pin_is_of_its_version_and_form(pin: Pin) -> None:
    form = "".join(PurePosixPath(pin.filename).suffixes[-1:])

    for url in (pin.url, *pin.mirrors):
        name = url.rpartition("/")[2]
        assert pin.version in name
        assert name.endswith(form)


@pytest.mark.parametrize(
    "key",
    ["quickstart", "0123456789ABCDEF0123456789ABCDEF01234567"],
    ids=["quickstart", "fingerprint"],
)
def test_a_signing_key_is_the_quickstarts_or_a_full_fingerprint(key: str) -> None:
    assert SigningConfig(key=key).key == key


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("01234567", id="short-id"),
        pytest.param("0123456789abcdef0123456789abcdef01234567", id="lower-case"),
        pytest.param("0123456789ABCDEF0123456789ABCDEF012345678", id="41-digits"),
        pytest.param("me@example", id="mail"),
        pytest.param("", id="empty"),
    ],
)
def test_a_signing_key_that_others_could_imitate_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        SigningConfig(key=key)


@pytest.mark.parametrize(
    "base_url",
    ["https://downloads.example/", "ftp://downloads.example", "downloads.example", "https://a b"],
    ids=["trailing-slash", "ftp", "no-scheme", "blank"],
)
def test_a_base_address_is_one_that_keys_can_be_appended_to(base_url: str) -> None:
    channel = make_config().channels.release

    with pytest.raises(ValidationError, match="base_url"):
        changed(channel, base_url=base_url)


def test_a_channel_builds_for_the_worker_or_for_named_platforms() -> None:
    channel = make_config().channels.release

    named = ChannelConfig.model_validate({**channel.model_dump(), "platforms": ["linux-x86_64"]})

    assert channel.platforms == "worker"
    assert named.platforms == ("linux-x86_64",)


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"platforms": ()}, id="no-platform"),
        pytest.param({"language_version": "3"}, id="language-one-number"),
        pytest.param({"language_version": "3.11.15rc1"}, id="language-candidate"),
        pytest.param({"homepage": "http://pypy.example"}, id="plain-http"),
        pytest.param({"product": "PyPy"}, id="upper-case-product"),
        pytest.param({"interpreter_version": "1.0"}, id="short-version"),
    ],
)
def test_an_interpreter_that_cannot_be_released_is_refused(override: dict[str, Any]) -> None:
    fields = make_interpreter().model_dump()

    with pytest.raises(ValidationError):
        InterpreterConfig.model_validate({**fields, **override})


@pytest.mark.parametrize("gc", get_args(GC_CHOICES))
def test_every_collector_of_rpython_can_be_asked_for(gc: str) -> None:
    translation = make_interpreter().translation

    assert changed(translation, gc=gc).gc == gc


GIT: Final[dict[str, Any]] = {
    "kind": "git",
    "repository": "https://git.example/pypy.git",
    "branch": "py3.11",
    "tag": "release-pypy3.11-v{version}",
    "version_file": "pypy/module/sys/version.py",
}


@pytest.mark.parametrize(
    "repository",
    ["https://git.example/pypy.git", "ssh://git@git.example/pypy", "file:///srv/pypy.git"],
    ids=["https", "ssh", "file"],
)
def test_a_repository_is_named_by_its_url(repository: str) -> None:
    assert GitSource.model_validate({**GIT, "repository": repository}).repository == repository


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"repository": "git://git.example/pypy.git"}, id="unauthenticated"),
        pytest.param({"repository": "--upload-pack=evil"}, id="option"),
        pytest.param({"repository": "ext::sh -c evil"}, id="command"),
        pytest.param({"repository": "https://git.example/a b"}, id="blank"),
        pytest.param({"branch": "--all"}, id="branch-is-an-option"),
        pytest.param({"branch": "a b"}, id="branch-with-a-blank"),
        pytest.param({"tag": "release-pypy3.11"}, id="tag-of-no-version"),
        pytest.param({"tag": "v{version} "}, id="tag-with-a-blank"),
        pytest.param({"version_file": "../version.py"}, id="version-file-climbs"),
        pytest.param({"commits": {"7.3.23": "194f9f44b505"}}, id="short-commit"),
        pytest.param({"commits": {"7.3.23": "release-pypy3.11-v7.3.23"}}, id="tag-for-a-commit"),
    ],
)
def test_a_git_source_that_fixes_nothing_is_refused(override: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GitSource.model_validate({**GIT, **override})


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (GIT, GitSource),
        (
            {"kind": "directory", "path": "demo", "date": "2026-01-01", "toolchain": ["rpython"]},
            DirectorySource,
        ),
    ],
    ids=["git", "directory"],
)
def test_a_source_is_of_the_kind_that_it_says(data: dict[str, Any], kind: type) -> None:
    assert isinstance(TypeAdapter[Source](Source).validate_python(data), kind)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"kind": "image", "argv": ["pypy"]}, ImageBootstrap),
        ({"kind": "release", "interpreter": "pypy2.7"}, ReleaseBootstrap),
    ],
    ids=["image", "release"],
)
def test_a_bootstrap_interpreter_is_of_the_kind_that_it_says(
    data: dict[str, Any], kind: type
) -> None:
    assert isinstance(TypeAdapter[Bootstrap](Bootstrap).validate_python(data), kind)


@pytest.mark.parametrize(
    ("package", "kind"),
    [(make_interpreter().package, PlainPackage), (make_pypy_package(), PyPyPackage)],
    ids=["plain", "pypy"],
)
def test_a_package_is_of_the_kind_that_it_says(
    package: PlainPackage | PyPyPackage, kind: type
) -> None:
    adapter = TypeAdapter[PlainPackage | PyPyPackage](PackageConfig)

    assert isinstance(adapter.validate_python(package.model_dump()), kind)


@pytest.mark.parametrize("part", ["source", "package"])
def test_a_part_that_says_no_kind_is_refused(part: str) -> None:
    fields = make_interpreter().model_dump()
    del fields[part]["kind"]

    with pytest.raises(ValidationError, match="Unable to extract tag using discriminator 'kind'"):
        InterpreterConfig.model_validate(fields)


def test_a_translation_that_makes_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="products"):
        changed(make_interpreter().translation, products=())


def test_the_pins_of_a_package_are_its_libraries_and_wheels() -> None:
    package = make_pypy_package()
    libraries = tuple(library.pin for library in package.embedded.values())

    assert libraries
    assert changed(package, wheels=("pip",)).pins == (*libraries, "pip")


def test_every_pin_that_is_shipped_is_used() -> None:
    config = make_config()
    used = {pin for line in config.interpreters.values() for pin in line.source.toolchain}
    for line in config.interpreters.values():
        if isinstance(line.package, PyPyPackage):
            used |= set(line.package.pins)

    assert used == set(config.pins)


def test_a_path_in_an_interpreter_cannot_leave_the_configuration() -> None:
    with pytest.raises(ValidationError):
        changed(make_interpreter().package, license_file="../../etc/passwd")


@pytest.mark.parametrize(
    "override",
    [
        {"os": "plan9"},
        {"libc": "dietlibc"},
        {"libc": "musl"},
        {"modes": ()},
        {"modes": ("cross",)},
        {"cross": {"hosts": ["linux-aarch64"], "prefix": "x86_64-linux-gnu"}},
        {"oci": None},
        {"os": "darwin"},
        {"binaries": {"format": "pe", "machine": "AMD64"}},
    ],
    ids=[
        "system",
        "libc",
        "musl-with-glibcs-floor",
        "no-mode",
        "cross-without-compiler",
        "compiler-without-cross",
        "no-containers",
        "macos-with-containers",
        "programs-of-windows",
    ],
)
def test_a_platform_that_no_code_handles_is_refused(override: dict[str, Any]) -> None:
    fields = make_platform().model_dump()

    with pytest.raises(ValidationError):
        Platform.model_validate({**fields, **override})


@pytest.mark.parametrize(("variant", "expected"), [(None, "linux/arm64"), ("v8", "linux/arm64/v8")])
def test_a_platform_is_written_as_docker_takes_it(variant: str | None, expected: str) -> None:
    assert str(OciNames(os="linux", architecture="arm64", variant=variant)) == expected


SHIPPED: Final = make_config().interpreters
PYPYS: Final = {name: line for name, line in SHIPPED.items() if line.product == "pypy"}


@pytest.mark.parametrize("line", SHIPPED.values(), ids=SHIPPED)
def test_every_test_file_that_a_shipped_command_names_is_there(line: InterpreterConfig) -> None:
    rules = line.verify
    commands = [test.argv for test in rules.smoke]
    commands += [rules.proofs.info, rules.proofs.jit, rules.proofs.gc, rules.report]
    paths = {
        word.removeprefix("{tests}/") for argv in commands for word in argv if "tests}/" in word
    }
    copied = {path for path in paths if path.split("/")[0] in rules.more_files}

    assert paths
    assert [
        path for path in paths - copied if not (CONFIGS / rules.test_files / path).exists()
    ] == []


@pytest.mark.parametrize(("name", "line"), PYPYS.items(), ids=PYPYS)
def test_a_shipped_pypy_is_consistently_of_its_language(name: str, line: InterpreterConfig) -> None:
    language = name.removeprefix("pypy")
    assert isinstance(line.source, GitSource)
    assert isinstance(line.package, PyPyPackage)

    assert line.language_version == language
    assert line.source.tag == f"release-{name}-v{{version}}"
    assert f"python{language}" in line.package.links
    assert f"pypy/goal/{line.package.library}" in line.translation.products
    assert set(line.package.embedded) <= set(line.package.modules)
    assert {test.argv[0] for test in line.verify.smoke} <= {
        "sh",
        "env",
        f"{{root}}/bin/{line.package.executable}",
    }
