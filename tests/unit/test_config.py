"""Configuration errors name the file, the key, what is allowed, and a near match."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pipeline.config import ELSEWHERE, TABLES, json_schemas, known, load_config, load_farm
from pipeline.errors import ConfigError, UnknownNameError
from tests.factories import CONFIGS

Edit = Callable[[str, str, str], None]


PYPY = "pypy3.11.toml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the shipped configuration with the demo only, to be broken."""
    copied = tmp_path / "configs"
    shutil.copytree(CONFIGS, copied)
    for path in copied.glob("*.toml"):
        if path.stem not in {"demo", *TABLES, *ELSEWHERE}:
            path.unlink()
    return copied


@pytest.fixture
def with_pypy(root: Path) -> Path:
    """The same with PyPy for Python 3.11."""
    shutil.copy(CONFIGS / PYPY, root)
    return root


BASES = ", ".join(sorted(load_config(CONFIGS).bases))
PLATFORMS = ", ".join(sorted(load_config(CONFIGS).platforms))
ENVIRONMENTS = ", ".join(sorted(load_config(CONFIGS).environments))
PINS = ", ".join(sorted(load_config(CONFIGS).pins))


@pytest.fixture
def edit(root: Path) -> Edit:
    """Give a function that replaces text in one file; the old text must be there once."""

    def replace(name: str, old: str, new: str) -> None:
        path = root / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    return replace


def test_the_shipped_configuration_is_accepted() -> None:
    config = load_config(CONFIGS)

    assert set(config.interpreters) >= {"demo", "pypy2.7", "pypy3.11", "pypy3.12"}
    assert set(config.interpreters).isdisjoint({*TABLES, *ELSEWHERE})
    assert config.root.as_posix() == CONFIGS.as_posix()


def test_every_platform_is_listed_under_its_identifier() -> None:
    platforms = load_config(CONFIGS).platforms

    assert {name: platform.identifier for name, platform in platforms.items()} == {
        name: name for name in platforms
    }


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_the_json_schemas_are_current(name: str) -> None:
    """After a change of the models: python -m pipeline schemas."""
    assert (CONFIGS / "schema" / name).read_bytes() == json_schemas()[name]


def test_no_json_schema_is_left_over() -> None:
    assert {path.name for path in (CONFIGS / "schema").iterdir()} == set(json_schemas())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_file_names_its_schema_for_editors(path: Path) -> None:
    kind = path.stem if path.stem in {*TABLES, *ELSEWHERE} else "interpreter"

    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert first == f"#:schema schema/{kind}.schema.json"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        pytest.param(
            "demo.toml",
            "jit_machines = ",
            "jit_machine = ",
            "demo.toml: key translation.jit_machine: is not known here. "
            "Did you mean 'jit_machines'? Allowed: bootstrap, cross_environment, directory, ",
            id="interpreter-nested",
        ),
        pytest.param(
            "demo.toml",
            "nightly_prefix",
            "nightly_prefx",
            "demo.toml: key nightly_prefx: is not known here. Did you mean 'nightly_prefix'?",
            id="interpreter-top",
        ),
        pytest.param(
            "demo.toml",
            "status = 2",
            "statsu = 2",
            "demo.toml: key verify.smoke.5.statsu: is not known here. Did you mean 'status'?",
            id="in-an-array",
        ),
        pytest.param(
            "environments.toml",
            'suite = "focal"',
            'siute = "focal"',
            "environments.toml: key bases.focal.siute: is not known here. Did you mean 'suite'?",
            id="in-a-union",
        ),
        pytest.param(
            "pins.toml",
            "size = 98708",
            "sizes = 98708",
            "pins.toml: key pins.py.sizes: is not known here. Did you mean 'size'? "
            "Allowed: filename, mirrors, sha256, size, url, version.",
            id="pin",
        ),
        pytest.param(
            "demo.toml",
            "date = 2026-11-21",
            "dat = 2026-11-21",
            "demo.toml: key source.dat: is not known here. Did you mean 'date'?",
            id="kind-of-source",
        ),
        pytest.param(
            "demo.toml",
            'links = ["demo1", "demo1.0"]',
            'lnks = ["demo1", "demo1.0"]',
            "demo.toml: key package.lnks: is not known here. Did you mean 'links'?",
            id="kind-of-package",
        ),
        pytest.param(
            "demo.toml",
            'argv = ["pypy"]',
            'argvv = ["pypy"]',
            "demo.toml: key translation.bootstrap.argvv: is not known here. Did you mean 'argv'?",
            id="kind-of-bootstrap",
        ),
        pytest.param(
            "platforms.toml",
            '{ arch = "s390x", platform',
            '{ acrh = "s390x", platform',
            "platforms.toml: key platforms.linux-s390x.versions_json.acrh: is not known here. "
            "Did you mean 'arch'? Allowed: arch, platform.",
            id="optional-inline-table",
        ),
        pytest.param(
            "platforms.toml",
            '{ family = "s390x", os',
            '{ famly = "s390x", os',
            "platforms.toml: key platforms.linux-s390x.uv.famly: is not known here. "
            "Did you mean 'family'? Allowed: family, libc, os.",
            id="inline-table",
        ),
        pytest.param(
            "channels.toml",
            "[release]",
            "[relase]",
            "channels.toml: key relase: is not known here. Did you mean 'release'? "
            "Allowed: nightly, release.",
            id="table",
        ),
    ],
)
def test_a_typing_mistake_in_a_key_is_answered_with_the_right_one(
    root: Path, edit: Edit, file: str, old: str, new: str, expected: str
) -> None:
    edit(file, old, new)

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert f"{root}/{expected}" in str(caught.value)


def test_a_wrong_collector_is_answered_with_all_and_the_near_one(root: Path, edit: Edit) -> None:
    edit("demo.toml", 'gc = "incminimark"', 'gc = "incmminimark"')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == (
        f"{root}/demo.toml: key translation.gc: 'incmminimark' is not one of its values. "
        "Did you mean 'incminimark'? Allowed: boehm, ref, semispace, statistics, generation, "
        "hybrid, minimark, incminimark."
    )


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        pytest.param("demo.toml", 'license = "MIT"\n', "demo.toml: key license", id="top"),
        pytest.param("demo.toml", "jit = true\n", "demo.toml: key translation.jit", id="nested"),
        pytest.param("pins.toml", "size = 98708\n", "pins.toml: key pins.py.size", id="table"),
        pytest.param(
            "demo.toml", 'name = "link"\n', "demo.toml: key verify.smoke.1.name", id="in-an-array"
        ),
    ],
)
def test_a_missing_key_is_named(
    root: Path, edit: Edit, file: str, line: str, expected: str
) -> None:
    edit(file, line, "")

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == f"{root}/{expected}: is missing."


def test_every_mistake_of_a_file_is_shown_at_once(root: Path, edit: Edit) -> None:
    edit("demo.toml", 'license = "MIT"\n', "")
    edit("demo.toml", 'gc = "incminimark"', 'gc = "x"')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{root}/demo.toml: key ") for line in lines)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        pytest.param(
            "demo.toml",
            'interpreter_version = "1.0.0"',
            "interpreter_version = 1.0",
            "demo.toml: key interpreter_version: Value error, a version is written as a string",
            id="version-as-number",
        ),
        pytest.param(
            "demo.toml",
            'license_file = "demo/LICENSE"',
            'license_file = "../LICENSE"',
            "demo.toml: key package.license_file: String should match pattern",
            id="path-climbs",
        ),
        pytest.param(
            "demo.toml",
            "date = 2026-11-21",
            'date = "yesterday"',
            "demo.toml: key source.date: Input should be a valid date",
            id="date",
        ),
        pytest.param(
            "pins.toml",
            "size = 98708",
            "size = -1",
            "pins.toml: key pins.py.size: Input should be greater than 0 (it is -1).",
            id="negative-size",
        ),
        pytest.param(
            "environments.toml",
            '[bases.bookworm]\nkind = "bootstrap"',
            '[bases.bookworm]\nkind = "debootstrap"',
            "environments.toml: key bases.bookworm",
            id="kind-of-base",
        ),
    ],
)
def test_a_value_of_another_form_is_shown_with_its_key(
    root: Path, edit: Edit, file: str, old: str, new: str, expected: str
) -> None:
    edit(file, old, new)

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(f"{root}/{expected}")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        pytest.param(
            "demo.toml",
            '"linux-x86_64", "linux-aarch64"',
            '"linux-x86_64", "linux-arch64"',
            "demo.toml: key platforms: unknown platform 'linux-arch64'. "
            f"Did you mean 'linux-aarch64'? Allowed: {PLATFORMS}.",
            id="platform",
        ),
        pytest.param(
            "demo.toml",
            '"rpython", "py", "pytest"]',
            '"rpthon", "py", "pytest"]',
            "demo.toml: key source.toolchain: unknown pin 'rpthon'. Did you mean 'rpython'? "
            f"Allowed: {PINS}.",
            id="pin",
        ),
        pytest.param(
            "demo.toml",
            'test_files = "demo/programs"',
            'test_files = "demo/programs"\ntoolchain = ["rpthon"]',
            "demo.toml: key verify.toolchain: unknown pin 'rpthon'. Did you mean 'rpython'? "
            f"Allowed: {PINS}.",
            id="pin-of-a-test",
        ),
        pytest.param(
            "demo.toml",
            'environment = "translate"',
            'environment = "tanslate"',
            "demo.toml: key translation.environment: unknown environment 'tanslate'. "
            f"Did you mean 'translate'? Allowed: {ENVIRONMENTS}.",
            id="translation-environment",
        ),
        pytest.param(
            "demo.toml",
            'cross_environment = "cross"',
            'cross_environment = "crss"',
            "demo.toml: key translation.cross_environment: unknown environment 'crss'. "
            f"Did you mean 'cross'? Allowed: {ENVIRONMENTS}.",
            id="cross-environment",
        ),
        pytest.param(
            "demo.toml",
            'environment = "translate-cpython"',
            'environment = "translate-cpthon"',
            "demo.toml: key translation.platforms.linux-s390x.environment: unknown environment "
            f"'translate-cpthon'. Did you mean 'translate-cpython'? Allowed: {ENVIRONMENTS}.",
            id="environment-of-a-platform",
        ),
        pytest.param(
            "demo.toml",
            "[translation.platforms.linux-s390x]",
            "[translation.platforms.linux-s390]",
            "demo.toml: key translation.platforms.linux-s390: unknown platform 'linux-s390'. "
            "Did you mean 'linux-s390x'? Allowed: ",
            id="platform-of-a-translation",
        ),
        pytest.param(
            "demo.toml",
            '{ kind = "image", argv = ["python2.7"] }',
            '{ kind = "release", interpreter = "dmo" }',
            "demo.toml: key translation.platforms.linux-s390x.bootstrap.interpreter: unknown "
            "interpreter 'dmo'. Did you mean 'demo'? Allowed: demo.",
            id="bootstrap-interpreter-of-a-platform",
        ),
        pytest.param(
            "platforms.toml",
            'cross = { hosts = ["linux-i686"]',
            'cross = { hosts = ["linux-i386"]',
            "platforms.toml: key platforms.linux-armhf.cross.hosts: unknown platform 'linux-i386'. "
            f"Did you mean 'linux-i686'? Allowed: {PLATFORMS}.",
            id="host-of-a-cross-compiler",
        ),
        pytest.param(
            "demo.toml",
            'environments = ["clean", "clean-newer"]',
            'environments = ["clean", "clean-bokworm"]',
            "demo.toml: key verify.environments: unknown environment 'clean-bokworm'. "
            "Did you mean 'clean-bookworm'?",
            id="verify-environment",
        ),
        pytest.param(
            "demo.toml",
            'kind = "image"\nargv = ["pypy"]',
            'kind = "release"\ninterpreter = "dmo"',
            "demo.toml: key translation.bootstrap.interpreter: unknown interpreter 'dmo'. "
            "Did you mean 'demo'? Allowed: demo.",
            id="bootstrap-interpreter",
        ),
        pytest.param(
            "environments.toml",
            '[environments.clean-newer]\nbases = ["bookworm", ',
            '[environments.clean-newer]\nbases = ["bokworm", ',
            "environments.toml: key environments.clean-newer.bases: unknown base 'bokworm'. "
            f"Did you mean 'bookworm'? Allowed: {BASES}.",
            id="base",
        ),
        pytest.param(
            "channels.toml",
            '[nightly]\ninterpreters = ["demo"]',
            '[nightly]\ninterpreters = ["dmo"]',
            "channels.toml: key nightly.interpreters: unknown interpreter 'dmo'. "
            "Did you mean 'demo'? Allowed: demo.",
            id="nightly-interpreter",
        ),
        pytest.param(
            "channels.toml",
            '[release]\ninterpreters = ["demo"]',
            '[release]\ninterpreters = ["dmo"]',
            "channels.toml: key release.interpreters: unknown interpreter 'dmo'.",
            id="release-interpreter",
        ),
    ],
)
def test_a_name_that_no_file_defines_is_answered_with_those_that_exist(
    root: Path, edit: Edit, file: str, old: str, new: str, expected: str
) -> None:
    edit(file, old, new)

    with pytest.raises(UnknownNameError) as caught:
        load_config(root)

    assert str(caught.value).startswith(expected)


def test_a_channels_platform_that_does_not_exist_is_named(root: Path, edit: Edit) -> None:
    edit("channels.toml", "[nightly]\n", "[nightly]\n#")
    text = (root / "channels.toml").read_text(encoding="utf-8").replace("#interp", "interp")
    text = text.replace('platforms = "worker"', 'platforms = ["linux-arch64"]')
    (root / "channels.toml").write_text(text, encoding="utf-8")

    with pytest.raises(UnknownNameError) as caught:
        load_config(root)

    assert str(caught.value).startswith("channels.toml: key release.platforms: unknown platform")


@pytest.mark.parametrize("name", ["ledger", "ledger.json", "index.html"])
def test_a_product_is_not_named_as_what_a_store_has_at_its_top(
    root: Path, edit: Edit, name: str
) -> None:
    edit("demo.toml", 'product = "demo"', f'product = "{name}"')

    with pytest.raises(ConfigError, match=rf"^demo\.toml: key product: {name} is the name of"):
        load_config(root)


def mirrored(root: Path, release: str, nightly: str) -> None:
    """Give the channels mirrors, each a TOML list."""
    path = root / "channels.toml"
    text = path.read_text(encoding="utf-8")
    for name, mirrors in (("release", release), ("nightly", nightly)):
        text = text.replace(f"[{name}]\n", f"[{name}]\nmirrors = {mirrors}\n")
    path.write_text(text, encoding="utf-8")


def mirror(store: str, options: str = "") -> str:
    """Return a mirror in TOML."""
    return f'{{ store = "{store}", base_url = "https://mirror.test"{options} }}'


@pytest.mark.parametrize(
    "names", [("store",), ("./store/",), ("other", "other"), ("s3://one", "s3://one")]
)
def test_a_mirror_is_another_place_than_the_store_and_the_other_mirrors(
    root: Path, names: tuple[str, ...]
) -> None:
    mirrors = f"[{', '.join(mirror(name) for name in names)}]"
    mirrored(root, mirrors, mirrors)

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(f"channels.toml: key release.mirrors: {names[-1]} ")


def test_buckets_of_two_servers_may_have_one_name(root: Path) -> None:
    theirs = mirror("s3://one", ', s3 = { endpoint = "https://s3.test" }')
    mirrors = f"[{mirror('s3://one')}, {theirs}]"
    mirrored(root, mirrors, mirrors)

    assert len(load_config(root).channels.release.mirrors) == 2


@pytest.mark.parametrize("key", ["mirrors", "base_url"])
def test_channels_with_one_store_say_the_same_of_it(root: Path, key: str) -> None:
    """Each writes the indexes of both, and would undo what the other wrote."""
    if key == "mirrors":
        mirrored(root, f"[{mirror('other')}]", "[]")
    else:
        path = root / "channels.toml"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("http://127.0.0.1:8377", "https://a.test", 1))

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(f"channels.toml: key nightly.{key}: is not release's")


def test_channels_with_stores_of_their_own_may_differ(root: Path) -> None:
    mirrored(root, f"[{mirror('other')}]", "[]")
    path = root / "channels.toml"
    before, heading, rest = path.read_text(encoding="utf-8").partition("[nightly]")
    path.write_text(before + heading + rest.replace('store = "store"', 'store = "nightlies"'))

    assert load_config(root).channels.nightly.store == "nightlies"


TAP: Final = '{{ repository = "{}", author = "A Releaser <a@tap.test>" }}'


def with_keys(root: Path, release: str, nightly: str) -> None:
    """Give the channels further keys, each lines of TOML."""
    path = root / "channels.toml"
    text = path.read_text(encoding="utf-8")
    for name, lines in (("release", release), ("nightly", nightly)):
        text = text.replace(f"[{name}]\n", f"[{name}]\n{lines}\n")
    path.write_text(text, encoding="utf-8")


def with_two_stores(root: Path) -> None:
    """Give the nightlies a store of their own."""
    path = root / "channels.toml"
    before, heading, rest = path.read_text(encoding="utf-8").partition("[nightly]")
    path.write_text(before + heading + rest.replace('store = "store"', 'store = "nightlies"'))


@pytest.mark.parametrize("ending", ["", ".git", "/"])
def test_channels_with_two_stores_have_no_tap_together(root: Path, ending: str) -> None:
    """Each knows its own ledger only, and would remove the other's formulas."""
    address = "https://git.test/tap"
    with_keys(root, f"tap = {TAP.format(address)}", f"tap = {TAP.format(address + ending)}")

    if not ending:
        assert load_config(root).channels.nightly.tap is not None
    with_two_stores(root)
    with pytest.raises(ConfigError) as caught:
        load_config(root)

    message = str(caught.value)
    assert message.startswith(
        f"channels.toml: key nightly.tap.repository: {address}{ending} (main)"
    )
    assert "Give one another repository or branch" in message


def test_channels_with_two_stores_may_have_two_taps(root: Path) -> None:
    taps = [f"tap = {TAP.format(f'https://git.test/{name}')}" for name in ("one", "two")]
    with_keys(root, taps[0], taps[1])
    with_two_stores(root)

    assert load_config(root).channels.release.tap is not None


@pytest.mark.parametrize(
    "address",
    [
        "https://me:s3cret@git.test/tap",
        "https://s3cret@git.test/tap",
        "http://me:s3cret@git.test/tap",
        "ssh://me:s3cret@git.test/tap",
    ],
)
def test_a_taps_address_with_a_secret_is_refused_and_not_repeated(root: Path, address: str) -> None:
    """It would stand in git's arguments, in errors and in plans."""
    with_keys(root, f"tap = {TAP.format(address)}", "")

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    message = str(caught.value)
    assert "channels.toml: key release.tap.repository: has a password or token in it." in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "address", ["ssh://git@git.test/tap", "https://git.test/@tap", "file:///srv/tap@home.git"]
)
def test_a_taps_address_may_name_the_user_of_ssh(root: Path, address: str) -> None:
    tap = f"tap = {TAP.format(address)}"
    with_keys(root, tap, tap)

    channel = load_config(root).channels.release

    assert channel.tap is not None
    assert channel.tap.repository == address


KEYS: Final = ("A" * 40, "B" * 40)


def signed_by(root: Path, release: str, nightly: str, more: str) -> None:
    """Let the channels sign as these tables say, with *more* keys in both."""
    path = root / "channels.toml"
    old = 'signing = { key = "quickstart", minimum_days = 30 }'
    for signing in (release, nightly):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(old, f"signing = {signing}\n{more}", 1), encoding="utf-8")


APT: Final = 'apt = { suites = ["bookworm"] }'


def test_channels_with_one_apt_repository_trust_the_same_keys(root: Path) -> None:
    """Who has the repository's source file must have every key that signs its lists."""
    signed_by(root, f'{{ key = "{KEYS[0]}" }}', f'{{ key = "{KEYS[1]}" }}', APT)

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    only = f"only one channel has {', '.join(KEYS)} as key or in trusted"
    assert str(caught.value).startswith(f"channels.toml: key nightly.signing: {only}")


@pytest.mark.parametrize("more", [APT, ""], ids=["apt", "no apt"])
def test_channels_with_one_store_may_have_two_keys_that_both_trust(root: Path, more: str) -> None:
    one, other = (
        f'{{ key = "{key}", trusted = ["{trusted}"] }}' for key, trusted in (KEYS, KEYS[::-1])
    )
    signed_by(root, one, other if more else f'{{ key = "{KEYS[1]}" }}', more)

    assert load_config(root).channels.nightly.signing.key == KEYS[1]


def test_suites_with_one_number_are_refused(root: Path, edit: Edit) -> None:
    """Their packages would have the same names and versions."""
    edit("distributions.toml", 'number = "13"', 'number = "12"')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    message = str(caught.value)
    assert message.startswith("distributions.toml: key suites.trixie.number: 12 is that of suites.")


@pytest.mark.parametrize("names", ['"worker"', '"all"', '["linux-riscv64", "linux-x86_64"]'])
@pytest.mark.parametrize("channel", ["release", "nightly"])
def test_a_channel_has_the_workers_platform_or_all_or_some(
    channel: str, names: str, root: Path
) -> None:
    path = root / "channels.toml"
    before, heading, rest = path.read_text(encoding="utf-8").partition(f"[{channel}]\n")
    rest = rest.replace('platforms = "worker"', f"platforms = {names}", 1)
    path.write_text(before + heading + rest, encoding="utf-8")

    found = getattr(load_config(root).channels, channel).platforms

    assert json.dumps(found) == names


@pytest.mark.parametrize(
    ("name", "old", "host"),
    [
        pytest.param("linux-armhf", "linux-i686", "linux-x86_64", id="word-size"),
        pytest.param("linux-musl-aarch64", "linux-x86_64", "linux-s390x", id="byte-order"),
    ],
)
def test_a_host_computes_as_its_target_does(name: str, old: str, host: str, root: Path) -> None:
    """RPython computes with the word size and byte order of the machine that it runs on."""
    path = root / "platforms.toml"
    before, heading, row = path.read_text(encoding="utf-8").partition(f"[platforms.{name}]\n")
    row = row.replace(f'hosts = ["{old}"]', f'hosts = ["{old}", "{host}"]', 1)
    path.write_text(before + heading + row, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(
        f"platforms.toml: key platforms.{name}.cross.hosts: {host} has "
    )


def test_a_smoke_test_that_a_platform_would_never_run_is_refused(root: Path, edit: Edit) -> None:
    edit(
        "demo.toml", 'environments = ["clean", "clean-newer"]', 'environments = ["clean-unrelated"]'
    )

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == (
        "demo.toml: key verify.smoke: test version: none of its environments (clean-unrelated) has "
        "a base for linux-aarch64. Add one in environments.toml, or take the platform out of key "
        "platforms."
    )


def test_a_single_test_must_be_run_on_every_platform_too(root: Path, edit: Edit) -> None:
    environments = 'environments = ["clean", "clean-newer"'
    edit("demo.toml", f"{environments}]", f'{environments}, "clean-unrelated"]')
    edit("demo.toml", 'name = "link"\n', 'name = "link"\nenvironments = ["clean-unrelated"]\n')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(
        "demo.toml: key verify.smoke: test link: none of its environments (clean-unrelated) has a "
        "base for linux-aarch64. "
    )


def test_a_platforms_key_must_be_its_identifier(root: Path, edit: Edit) -> None:
    """Artifacts carry the identifier, and indexes look rows up by it."""
    edit("platforms.toml", 'identifier = "linux-aarch64"', 'identifier = "linux-arm64"')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert "platforms.toml: key platforms.linux-aarch64.identifier" in str(caught.value)


@pytest.mark.parametrize("name", ["demo.toml", *(f"{table}.toml" for table in TABLES)])
def test_a_file_that_is_not_toml_is_named_with_the_line(root: Path, name: str) -> None:
    (root / name).write_text("a = 1\nb = = 2\n", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(f"{root}/{name}: not valid TOML: ")
    assert "at line 2" in str(caught.value)


def test_a_file_that_is_not_utf8_is_named(root: Path) -> None:
    (root / "demo.toml").write_bytes(b'summary = "\xff"\n')

    with pytest.raises(ConfigError, match=r"demo\.toml: not valid TOML: .*utf-8"):
        load_config(root)


def test_an_interpreters_file_bears_its_name(root: Path) -> None:
    (root / "demo.toml").rename(root / "dmeo.toml")

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == (
        f"{root}/dmeo.toml: key interpreter: is 'demo', but the file's name says 'dmeo'. "
        "Name the file after the interpreter."
    )


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_file_is_named_with_a_remedy(root: Path, table: str) -> None:
    (root / f"{table}.toml").unlink()

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value).startswith(f"{root}/{table}.toml: no such file. ")
    assert "--configs" in str(caught.value)


def test_a_directory_that_does_not_exist_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "missing")


def test_a_second_interpreter_is_one_more_file(root: Path) -> None:
    text = (root / "demo.toml").read_text(encoding="utf-8")
    for key in ("interpreter", "package", "image", "formula"):
        text = re.sub(rf'^{key} = "(.*)"', rf'{key} = "\g<1>2"', text, flags=re.MULTILINE)
    second = text
    (root / "demo2.toml").write_text(second, encoding="utf-8")

    config = load_config(root)

    assert list(config.interpreters) == ["demo", "demo2"]


def test_a_known_name_gives_its_entry() -> None:
    assert known("pin", "a", {"a": 1, "b": 2}, where="x.toml") == 1


def test_an_unknown_name_hides_the_key_error_that_found_it() -> None:
    with pytest.raises(UnknownNameError) as caught:
        known("pin", "c", {"b": 2, "a": 1}, where="x.toml: key pins")

    assert str(caught.value) == "x.toml: key pins: unknown pin 'c'. Allowed: a, b."
    assert caught.value.__suppress_context__


DEMO = load_config(CONFIGS).interpreters["demo"].translation
WITHOUT_JIT = f"without_jit = {json.dumps(DEMO.without_jit)}"
ALL_BUT_RISCV64 = WITHOUT_JIT.replace(', "riscv64"', "")


def test_a_jit_is_refused_where_the_toolchain_has_none(root: Path, edit: Edit) -> None:
    edit("demo.toml", WITHOUT_JIT, ALL_BUT_RISCV64)

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == (
        "demo.toml: key translation.jit: is true, but the toolchain has no JIT backend for riscv64 "
        f"(linux-riscv64; it has: {', '.join(DEMO.jit_machines)}). Take the platform out, or add "
        "'riscv64' to translation.without_jit to translate with --opt=2."
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("jit_machines = [", 'jit_machines = ["riscv64", ', id="has"),
        pytest.param("jit = true", "jit = false", id="not-asked-for"),
        pytest.param(' "linux-riscv64",', "", id="platform-taken-out"),
    ],
)
def test_a_jit_is_accepted_where_it_can_be_had_or_is_not_wanted(
    old: str, new: str, root: Path, edit: Edit
) -> None:
    edit("demo.toml", WITHOUT_JIT, ALL_BUT_RISCV64)
    edit("demo.toml", old, new)

    load_config(root)


@pytest.mark.parametrize("gc", ["boehm", "minimark"])
def test_cpyext_is_refused_with_a_collector_that_it_does_not_work_with(
    gc: str, with_pypy: Path, edit: Edit
) -> None:
    edit(PYPY, 'gc = "incminimark"', f'gc = "{gc}"')

    with pytest.raises(ConfigError) as caught:
        load_config(with_pypy)

    assert str(caught.value) == (
        f"pypy3.11.toml: key translation.gc: is {gc!r}, but cpyext works with 'incminimark' only. "
        "Change it, or add '--withoutmod-cpyext' to translation.target_options."
    )


def test_without_cpyext_any_collector_is_accepted(with_pypy: Path, edit: Edit) -> None:
    without = 'gc = "minimark"\ntarget_options = ["--withoutmod-cpyext"]'
    edit(PYPY, 'gc = "incminimark"', without)

    assert load_config(with_pypy).interpreters["pypy3.11"].translation.gc == "minimark"


def test_what_is_not_pypy_has_no_cpyext_and_may_have_any_collector(root: Path, edit: Edit) -> None:
    edit("demo.toml", 'gc = "incminimark"', 'gc = "boehm"')

    assert load_config(root).interpreters["demo"].translation.gc == "boehm"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            'pin = "openssl"',
            'pin = "opensl"',
            "unknown pin 'opensl'. Did you mean 'openssl'? ",
            id="library",
        ),
        pytest.param(
            'kind = "pypy"',
            'kind = "pypy"\nwheels = ["setuptool"]',
            "unknown pin 'setuptool'. Did you mean 'setuptools'? ",
            id="wheel",
        ),
    ],
)
def test_a_pin_of_a_package_that_does_not_exist_is_answered_with_those_that_do(
    old: str, new: str, expected: str, with_pypy: Path, edit: Edit
) -> None:
    edit(PYPY, old, new)

    with pytest.raises(UnknownNameError) as caught:
        load_config(with_pypy)

    where = "pypy3.11.toml: key package.embedded or package.wheels"
    assert str(caught.value) == f"{where}: {expected}Allowed: {PINS}."


@pytest.mark.parametrize("name", ["clean-newer", "clean-bulseye"], ids=["elsewhere", "nowhere"])
def test_a_smoke_test_runs_where_its_interpreter_is_tried(
    name: str, with_pypy: Path, edit: Edit
) -> None:
    gate = 'gate = "RUN07"\nenvironments = '
    edit(PYPY, f'{gate}["compiler"]', f'{gate}["compiler", "{name}"]')

    with pytest.raises(UnknownNameError) as caught:
        load_config(with_pypy)

    message = str(caught.value)
    where = "pypy3.11.toml: key verify.smoke: test tls: environments"
    assert message.startswith(f"{where}: unknown environment {name!r}. ")
    assert message.endswith("Allowed: clean, clean-unrelated, compiler.")


def test_a_mistyped_environment_is_named_where_it_is_mistyped(with_pypy: Path, edit: Edit) -> None:
    edit(PYPY, '"clean-unrelated", "compiler"]', '"clean-unrelated", "compilr"]')

    with pytest.raises(UnknownNameError) as caught:
        load_config(with_pypy)

    assert str(caught.value).startswith(
        "pypy3.11.toml: key verify.environments: unknown environment 'compilr'. "
        "Did you mean 'compiler'?"
    )


def test_an_expected_output_that_is_not_there_is_named_with_its_test(
    root: Path, edit: Edit
) -> None:
    edit("demo.toml", '"hot_loop.expected"', '"hot_lop.expected"')

    with pytest.raises(ConfigError) as caught:
        load_config(root)

    assert str(caught.value) == (
        "demo.toml: key verify.smoke: test hot-loop: no file "
        f"{root}/demo/programs/hot_lop.expected."
    )


@pytest.mark.parametrize("name", ["clean-newer", "clean-bulseye"], ids=["elsewhere", "nowhere"])
def test_a_module_is_only_where_its_interpreter_is_tried(
    name: str, with_pypy: Path, edit: Edit
) -> None:
    edit(PYPY, '_tkinter = ["compiler"]', f'_tkinter = ["compiler", "{name}"]')

    with pytest.raises(UnknownNameError) as caught:
        load_config(with_pypy)

    message = str(caught.value)
    where = "pypy3.11.toml: key verify.modules_only_in._tkinter"
    assert message.startswith(f"{where}: unknown environment {name!r}. ")
    assert message.endswith("Allowed: clean, clean-unrelated, compiler.")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            '[debian]\npackage = "pypy3.12"',
            '[debian]\npackage = "pypy3.11"',
            "debian.package: pypy3.11",
        ),
        ('line = "3.12"', 'line = "3.11"', "image.image and image.line: pypy:3.11"),
        ('formula = "pypy3.12"', 'formula = "pypy3.11"', "homebrew.formula: pypy3.11"),
    ],
)
def test_two_interpreters_do_not_share_the_names_of_packages_and_images(
    with_pypy: Path, edit: Edit, old: str, new: str, named: str
) -> None:
    shutil.copy(CONFIGS / "pypy3.12.toml", with_pypy)
    edit("pypy3.12.toml", old, new)

    with pytest.raises(ConfigError) as caught:
        load_config(with_pypy)

    assert "pypy3.12.toml: key" in str(caught.value)
    assert f"{named} is pypy3.11.toml's already" in str(caught.value)


def test_packages_that_nothing_would_try_are_refused(root: Path, edit: Edit) -> None:
    edit(
        "demo.toml",
        '[[install]]\nname = "version"',
        '[[install]]\nclients = ["apt"]\nname = "version"',
    )

    with pytest.raises(ConfigError, match=r"demo.toml: key install: has no test for what image"):
        load_config(root)


def test_a_test_of_a_part_that_there_is_not_is_refused(with_pypy: Path, edit: Edit) -> None:
    edit(PYPY, 'parts = ["-venv"]', 'parts = ["-vnev"]')

    with pytest.raises(UnknownNameError) as caught:
        load_config(with_pypy)

    assert str(caught.value).startswith(
        "pypy3.11.toml: key install: test venv: parts: unknown part '-vnev'. Did you mean '-venv'?"
    )


def test_the_shipped_farm_has_one_signer_and_builders() -> None:
    farm = load_farm(CONFIGS)

    assert farm.signer not in farm.builders
    assert farm.builders


def test_a_farm_with_two_signers_is_refused(root: Path) -> None:
    path = root / "farm.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[workers.worker-1]\n", '[workers.worker-1]\nrole = "signer"\n'))

    with pytest.raises(ConfigError, match=r"farm\.toml.*exactly one worker has role = 'signer'"):
        load_farm(root)


def test_builds_on_one_machine_do_not_need_a_farm(root: Path) -> None:
    (root / "farm.toml").unlink()

    assert "demo" in load_config(root).interpreters
    with pytest.raises(ConfigError, match=r"farm\.toml: no such file"):
        load_farm(root)


def test_a_signer_does_one_thing_at_a_time(root: Path) -> None:
    path = root / "farm.toml"
    path.write_text(path.read_text().replace('role = "signer"\n', 'role = "signer"\nbuilds = 2\n'))

    with pytest.raises(ConfigError, match=r"farm\.toml.*the signer has builds = 1"):
        load_farm(root)


def test_a_worker_is_not_named_as_the_masters_own(root: Path) -> None:
    path = root / "farm.toml"
    path.write_text(path.read_text().replace("[workers.worker-1]", "[workers.coordinator-9]"))

    with pytest.raises(ConfigError, match=r"farm\.toml.*are the master's own"):
        load_farm(root)
