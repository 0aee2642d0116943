"""Whose signature on the ledger counts."""

from pathlib import Path
from typing import Final

import pytest

from pipeline.errors import SignatureError, SigningKeyError
from pipeline.model.base import canonical_json
from pipeline.model.configs import SigningConfig
from pipeline.model.ledger import Ledger, SignedLedger
from pipeline.sign.gpg import CLEAR_BEGIN, CLEAR_END, armoured
from pipeline.sign.notary import KeyFileNotary, KeyringNotary, Notary, channel_notary
from tests.factories import changed, make_event
from tests.fakes import (
    KEY,
    OTHER_KEY,
    Answer,
    FakeNotary,
    FakeProcess,
    World,
    expect_gpg,
    make_world,
    secret_key,
    valid_signature,
)

PAYLOAD: Final = canonical_json(Ledger(events=(make_event(),)))
THIRD_KEY: Final = "1111111111222222222233333333334444444444"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "project")


def notary_of(world: World, key: str = KEY, *trusted: str) -> KeyringNotary:
    """Return the notary of a channel."""
    return channel_notary(world.ctx, SigningConfig(key=key, trusted=trusted))


def signed_by(world: World, key: str) -> SignedLedger:
    """Return a ledger that a releaser with another key signed."""
    world.process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=secret_key(key)))
    ledger = notary_of(world, key).signed(PAYLOAD)
    expect_gpg(world.process)
    return ledger


def test_a_payload_is_signed_by_the_channels_key(world: World) -> None:
    ledger = notary_of(world).signed(PAYLOAD)

    assert ledger.payload.encode() == PAYLOAD
    assert ledger.fingerprint == KEY
    assert ledger.signature.startswith(KEY)
    assert world.process.ran("gpg", "--detach-sign", "--armor") == 1


def test_another_releaser_with_the_same_key_is_believed(world: World) -> None:
    ledger = notary_of(world).signed(PAYLOAD)

    notary_of(world).check(ledger)

    assert world.process.ran("gpgv") == 1


def test_what_was_signed_or_checked_once_is_not_checked_again(world: World) -> None:
    notary, other = notary_of(world), notary_of(world)
    ledger = notary.signed(PAYLOAD)

    notary.check(ledger)
    assert world.process.ran("gpgv") == 0

    other.check(ledger)
    other.check(ledger)
    assert world.process.ran("gpgv") == 1


def test_a_key_that_may_no_longer_sign_signs_no_ledger(world: World) -> None:
    expect_gpg(world.process, listing=secret_key(validity="e"))

    with pytest.raises(SigningKeyError, match="has expired"):
        notary_of(world).signed(PAYLOAD)


def test_what_an_expired_key_signed_before_can_be_read(world: World) -> None:
    ledger = notary_of(world).signed(PAYLOAD)
    expect_gpg(world.process, listing=secret_key(validity="e"))

    notary_of(world).check(ledger)

    assert world.process.ran("gpgv") == 1


def test_a_trusted_key_is_believed(world: World) -> None:
    ledger = signed_by(world, OTHER_KEY)

    notary_of(world, KEY, OTHER_KEY).check(ledger)

    (export,) = (call.argv for call in world.process.calls if "--export" in call.argv)
    assert export[-2:] == ("--export", OTHER_KEY)


@pytest.mark.parametrize(
    ("trusted", "named"), [((), KEY), ((THIRD_KEY,), f"{KEY}, {THIRD_KEY}")], ids=["none", "other"]
)
def test_a_key_that_is_not_trusted_is_not_believed_however_good_its_signature(
    world: World, trusted: tuple[str, ...], named: str
) -> None:
    ledger = signed_by(world, OTHER_KEY)

    with pytest.raises(SignatureError) as caught:
        notary_of(world, KEY, *trusted).check(ledger)

    message = str(caught.value)
    assert f"is signed by {OTHER_KEY}, which is not trusted here (trusted: {named})" in message
    assert "signing.trusted" in message
    assert world.process.ran("gpgv") == 0


def test_a_trusted_key_that_is_not_in_the_keyring_is_asked_for(world: World) -> None:
    ledger = signed_by(world, OTHER_KEY)
    world.process.expect("gpg", "--export", OTHER_KEY, answer=Answer(stdout=b""))

    with pytest.raises(SignatureError, match="import that key with gpg --import"):
        notary_of(world, KEY, OTHER_KEY).check(ledger)


@pytest.mark.parametrize(
    "override",
    [
        pytest.param({"payload": canonical_json(Ledger()).decode()}, id="payload"),
        pytest.param({"signature": f"{KEY} {'0' * 64}"}, id="signature"),
        pytest.param({"fingerprint": OTHER_KEY}, id="claims-another-trusted-key"),
    ],
)
def test_a_ledger_that_was_changed_is_not_believed(world: World, override: dict[str, str]) -> None:
    ledger = notary_of(world).signed(PAYLOAD)
    notary = notary_of(world, KEY, OTHER_KEY)

    with pytest.raises(SignatureError):
        notary.check(changed(ledger, **override))

    notary.check(ledger)


def test_what_was_not_believed_is_not_believed_the_next_time(world: World) -> None:
    notary = notary_of(world)
    bad = changed(notary.signed(PAYLOAD), payload="{}")

    for _ in range(2):
        with pytest.raises(SignatureError):
            notary.check(bad)


# --- the quickstart's key -------------------------------------------------------------------


def test_the_quickstarts_own_key_is_believed(tmp_path: Path) -> None:
    world = make_world(tmp_path / "project", key="quickstart")
    world.process.expect("gpgconf")

    ledger = notary_of(world, "quickstart").signed(PAYLOAD)
    notary_of(world, "quickstart").check(ledger)

    assert ledger.fingerprint == KEY
    assert world.process.ran("gpgv") == 1


def test_checking_makes_no_quickstart_key(world: World) -> None:
    """A dry run reads the ledger too; a key of one's own would not help."""
    ledger = signed_by(world, OTHER_KEY)
    world.process.expect("gpg", "--generate-key")
    world.process.expect("gpgconf")

    with pytest.raises(SignatureError, match=r"\(trusted: none\)"):
        notary_of(world, "quickstart").check(ledger)

    assert world.process.ran("gpg", "--generate-key") == 0
    assert not world.ctx.work.path("keys").exists()


def test_secret_keys_of_the_user_are_not_the_quickstarts(world: World) -> None:
    ledger = notary_of(world).signed(PAYLOAD)

    with pytest.raises(SignatureError):
        notary_of(world, "quickstart").check(ledger)


# --- a key file -----------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "KEY.asc"
    path.write_text("armoured key\n")
    return path


def expect_shown(process: FakeProcess, *fingerprints: str) -> None:
    """Expect GnuPG to show the keys of the file."""
    listing = "".join(
        f"pub:-:255:22:{key[-16:]}:1767225600:::-:::scSC::::ed25519:::0:\nfpr:::::::::{key}:\n"
        for key in fingerprints
    )
    process.expect("gpg", "--show-keys", answer=Answer(stdout=listing))


@pytest.mark.parametrize("keys", [(KEY,), (OTHER_KEY, KEY)], ids=["one", "several"])
def test_a_user_believes_the_keys_of_a_file(
    world: World, key_file: Path, keys: tuple[str, ...]
) -> None:
    ledger = notary_of(world).signed(PAYLOAD)
    expect_shown(world.process, *keys)

    KeyFileNotary(path=key_file, process=world.process).check(ledger)

    assert world.process.ran("gpgv") == 1
    assert world.process.ran("gpg", "--dearmor", str(key_file)) == 1


def test_a_user_believes_no_other_key(world: World, key_file: Path) -> None:
    ledger = notary_of(world).signed(PAYLOAD)
    expect_shown(world.process, OTHER_KEY)

    with pytest.raises(SignatureError, match=rf"not trusted here \(trusted: {OTHER_KEY}\)"):
        KeyFileNotary(path=key_file, process=world.process).check(ledger)


def test_a_public_key_signs_nothing(world: World, key_file: Path) -> None:
    with pytest.raises(SignatureError, match="a public key only checks"):
        KeyFileNotary(path=key_file, process=world.process).signed(PAYLOAD)


def test_the_notary_of_the_tests_is_as_strict() -> None:
    notary: Notary = FakeNotary()
    ledger = notary.signed(PAYLOAD)

    notary.check(ledger)
    with pytest.raises(SignatureError):
        notary.check(changed(ledger, payload="{}"))


# --- texts that are signed in clear ---------------------------------------------------------

TEXT: Final = b"Origin: Toy\nDate: today\n"


def expect_clear(process: FakeProcess, signer: str = KEY, text: bytes = TEXT) -> None:
    """Expect GnuPG to sign in clear, and gpgv to say that *signer* did."""

    def sign(argv: tuple[str, ...]) -> None:
        message = CLEAR_BEGIN + b"\n" + Path(argv[-1]).read_bytes() + CLEAR_END
        Path(argv[argv.index("--output") + 1]).write_bytes(message)

    def check(argv: tuple[str, ...]) -> bytes:
        Path(argv[argv.index("--output") + 1]).write_bytes(text)
        return valid_signature(signer).encode()

    process.expect("gpg", "--clear-sign", answer=Answer(effect=sign))
    process.expect("gpgv", "--output", answer=Answer(effect=check))


def test_a_text_is_signed_by_the_channels_key_and_checked(world: World) -> None:
    expect_clear(world.process)
    notary = notary_of(world)

    data = notary.clearsigned(TEXT)

    assert data == CLEAR_BEGIN + b"\n" + TEXT + CLEAR_END
    assert world.process.ran("gpg", "--clear-sign", "--local-user", KEY, "SHA512") == 1
    assert world.process.ran("gpgv") == 1
    assert notary.signed_text(data) == TEXT
    assert world.process.ran("gpgv") == 1


@pytest.mark.parametrize(("signer", "text"), [(OTHER_KEY, TEXT), (KEY, b"another text")])
def test_a_fresh_signature_that_is_not_the_wanted_one_is_an_error(
    world: World, signer: str, text: bytes
) -> None:
    expect_clear(world.process, signer, text)

    with pytest.raises(SignatureError):
        notary_of(world).clearsigned(TEXT)


def test_a_key_that_may_no_longer_sign_signs_no_text(world: World) -> None:
    expect_gpg(world.process, listing=secret_key(validity="e"))

    with pytest.raises(SigningKeyError, match="has expired"):
        notary_of(world).clearsigned(TEXT)


def test_a_text_by_a_trusted_key_is_believed_and_by_no_other(world: World) -> None:
    expect_clear(world.process, OTHER_KEY)
    message = CLEAR_BEGIN + CLEAR_END

    assert notary_of(world, KEY, OTHER_KEY).signed_text(message) == TEXT
    with pytest.raises(SignatureError, match=f"signed by {OTHER_KEY}, which is not trusted"):
        notary_of(world).signed_text(message)


def test_the_public_keys_are_the_trusted_ones_in_one_block(world: World) -> None:
    world.process.expect("gpg", "--export", KEY, answer=Answer(stdout=b"own"))
    world.process.expect("gpg", "--export", OTHER_KEY, answer=Answer(stdout=b"other"))

    keys = notary_of(world, KEY, OTHER_KEY).public_keys()

    assert keys == armoured(b"ownother")


@pytest.mark.parametrize("missing", [KEY, THIRD_KEY])
def test_no_public_key_is_left_out(world: World, missing: str) -> None:
    """Else what users get would depend on who releases, and lack a key that signs."""
    for key in (KEY, OTHER_KEY, THIRD_KEY):
        answer = Answer(stdout=b"" if key == missing else b"key")
        world.process.expect("gpg", "--export", key, answer=answer)
    notary = notary_of(world, KEY, OTHER_KEY, THIRD_KEY)

    with pytest.raises(SigningKeyError, match=f"but {missing} .* gpg --import"):
        notary.public_keys()


def test_a_missing_key_keeps_nobody_from_reading_what_another_signed(world: World) -> None:
    expect_clear(world.process, OTHER_KEY)
    world.process.expect("gpg", "--export", THIRD_KEY, answer=Answer(stdout=b""))

    notary = notary_of(world, KEY, OTHER_KEY, THIRD_KEY)

    assert notary.signed_text(CLEAR_BEGIN + CLEAR_END) == TEXT


def test_without_a_keyring_no_key_is_known(world: World) -> None:
    notary = notary_of(world, "quickstart")

    assert notary.public_keys() is None
    with pytest.raises(SignatureError, match="no trusted key here"):
        notary.signed_text(b"message")


def test_with_a_key_file_texts_are_checked_but_none_is_signed(world: World, key_file: Path) -> None:
    expect_shown(world.process, KEY)
    expect_clear(world.process)
    notary: Notary = KeyFileNotary(path=key_file, process=world.process)

    assert notary.signed_text(CLEAR_BEGIN + CLEAR_END) == TEXT
    assert notary.public_keys() is None
    with pytest.raises(SignatureError, match="a public key only checks"):
        notary.clearsigned(TEXT)


def test_the_notary_of_the_tests_is_as_strict_with_texts() -> None:
    notary: Notary = FakeNotary()
    data = notary.clearsigned(TEXT)

    assert notary.signed_text(data) == TEXT
    for spoiled in (b"x" + data, data[:-2] + b"x\n", b""):
        with pytest.raises(SignatureError):
            notary.signed_text(spoiled)
