"""Which key may sign, and which signature counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from pipeline.errors import MissingToolError, SignatureError, SigningKeyError
from pipeline.model.configs import SigningConfig
from pipeline.sign.gpg import (
    CLEAR_BEGIN,
    CLEAR_END,
    LONGEST_HOME,
    QUICKSTART_TEMPLATE,
    Keyring,
    SigningKey,
    armoured,
    binary_keys,
    key_fingerprints,
    own_fingerprints,
    quickstart_keyring,
    usable_key,
    verified_text,
    verify_signature,
)
from tests.fakes import (
    KEY,
    NOW,
    OTHER_KEY,
    Answer,
    FakeProcess,
    expect_gpg,
    secret_key,
    valid_signature,
)

THIRD_KEY: Final = "1111111111222222222233333333334444444444"


def at(days: float) -> str:
    """Return a time in days from now as GnuPG writes it."""
    return str(int((NOW + timedelta(days=days)).timestamp()))


def asked(listing: str, key: str = KEY, minimum_days: int = 30) -> SigningKey:
    """Ask for a usable key in a keyring that lists itself so."""
    process = FakeProcess()
    process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=listing))
    config = SigningConfig(key=key, minimum_days=minimum_days)
    return usable_key(Keyring(process=process, home=None), config, NOW)


def test_the_configured_key_signs() -> None:
    key = asked(secret_key(expires=at(400)))

    assert key.fingerprint == KEY
    assert key.expires == NOW + timedelta(days=400)


def test_a_key_may_have_no_end() -> None:
    key = asked(secret_key(expires=""))

    assert key == SigningKey(fingerprint=KEY, expires=None)


def test_the_configured_one_of_several_keys_signs() -> None:
    listing = secret_key(OTHER_KEY, validity="e") + secret_key() + secret_key(THIRD_KEY)

    key = asked(listing)

    assert key.fingerprint == KEY


def test_the_quickstart_signs_with_its_only_key() -> None:
    key = asked(secret_key(OTHER_KEY), key="quickstart")

    assert key.fingerprint == OTHER_KEY


@pytest.mark.parametrize(
    ("listing", "have"),
    [
        ("", "none"),
        ("gpg: no ultimately trusted keys found\n", "none"),
        (secret_key(OTHER_KEY), OTHER_KEY),
        (secret_key(OTHER_KEY) + secret_key(THIRD_KEY), f"{OTHER_KEY}, {THIRD_KEY}"),
        (secret_key()[:40], "none"),
    ],
    ids=["empty keyring", "noise", "another key", "other keys", "cut off"],
)
def test_a_missing_key_is_named_with_those_that_are_there(listing: str, have: str) -> None:
    with pytest.raises(SigningKeyError) as caught:
        asked(listing)

    message = str(caught.value)
    assert f"no secret key {KEY} in the keyring (it has: {have})" in message
    assert "gpg --import" in message


def test_a_subkey_is_not_the_key() -> None:
    """The listing has a fingerprint for every subkey; only a primary key's names a signer."""
    subkey = KEY[::-1]
    assert f"fpr:::::::::{subkey}:" in secret_key()

    with pytest.raises(SigningKeyError, match=f"no secret key {subkey}"):
        asked(secret_key(), key=subkey)


def test_an_expired_subkey_does_not_make_its_key_unusable() -> None:
    primary, subkey = secret_key(expires=at(400)), secret_key(validity="e", expires=at(-1))
    listing = primary.partition("ssb:")[0] + "ssb:" + subkey.partition("ssb:")[2]

    key = asked(listing)

    assert key.expires == NOW + timedelta(days=400)


@pytest.mark.parametrize(
    ("validity", "complaint"),
    [
        ("e", r"has expired \(2026-11-11\)"),
        ("r", "is revoked"),
        ("d", "is disabled"),
        ("i", "is invalid"),
    ],
)
def test_a_broken_key_does_not_sign(validity: str, complaint: str) -> None:
    listing = secret_key(validity=validity, expires=at(-10))

    with pytest.raises(SigningKeyError, match=f"key {KEY} {complaint}"):
        asked(listing)


@pytest.mark.parametrize(
    ("days", "minimum_days"),
    [(29.9, 30), (-1, 0), (1, 2)],
    ids=["a little too soon", "over, but GnuPG did not notice", "tomorrow"],
)
def test_a_key_that_expires_too_soon_does_not_sign(days: float, minimum_days: int) -> None:
    with pytest.raises(SigningKeyError) as caught:
        asked(secret_key(expires=at(days)), minimum_days=minimum_days)

    message = str(caught.value)
    assert f"must stay valid for {minimum_days} days" in message
    assert f"{NOW + timedelta(days=days):%Y-%m-%d}" in message
    assert f"gpg --quick-set-expire {KEY}" in message


@pytest.mark.parametrize(("days", "minimum_days"), [(30, 30), (31, 30), (0, 0)])
def test_a_key_that_is_valid_for_long_enough_signs(days: int, minimum_days: int) -> None:
    key = asked(secret_key(expires=at(days)), minimum_days=minimum_days)

    assert key.expires == NOW + timedelta(days=days)


def test_expiry_is_in_utc() -> None:
    key = asked(secret_key(expires="4102444800"))

    assert key.expires == datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def process() -> FakeProcess:
    made = FakeProcess()
    expect_gpg(made)
    return made


def test_a_signature_is_detached_armoured_and_by_that_key(
    process: FakeProcess, tmp_path: Path
) -> None:
    checksums, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.asc"
    checksums.write_bytes(b"sums")

    Keyring(process=process, home=None).sign(checksums, signature, KEY)

    argv = process.calls[-1].argv
    assert argv[argv.index("--local-user") + 1] == KEY
    assert argv[argv.index("--digest-algo") + 1] == "SHA512"
    assert {"--detach-sign", "--armor", "--batch"} <= set(argv)
    assert signature.is_file()


def test_no_command_carries_a_secret(process: FakeProcess, tmp_path: Path) -> None:
    """Argument lists are public on a machine; passphrases belong to gpg-agent."""
    process.expect("gpg", "--generate-key")
    process.expect("gpgconf")
    checksums, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.asc"
    checksums.write_bytes(b"sums")

    with quickstart_keyring(process, tmp_path / "home") as keyring:
        keyring.make_quickstart_key()
        keyring.sign(checksums, signature, KEY)
        keyring.verify(checksums, signature, KEY)
        keyring.public_key(KEY)

    words = {word for call in process.calls for word in call.argv}
    assert not [word for word in words if "passphrase" in word or "pinentry" in word]
    assert not words & {"--export-secret-keys", "--export-secret-subkeys"}
    assert QUICKSTART_TEMPLATE not in words


def test_a_key_that_cannot_sign_says_what_to_do(process: FakeProcess, tmp_path: Path) -> None:
    failure = Answer(status=2, stderr="gpg: signing failed: Inappropriate ioctl for device")
    process.expect("gpg", "--detach-sign", answer=failure)

    with pytest.raises(SigningKeyError) as caught:
        Keyring(process=process, home=None).sign(tmp_path / "SHA256SUMS", tmp_path / "s.asc", KEY)

    message = str(caught.value)
    assert f"key {KEY} cannot sign SHA256SUMS" in message
    assert "gpg-agent" in message
    assert "Inappropriate ioctl" in message


def test_a_missing_gpg_names_the_package(process: FakeProcess) -> None:
    process.missing.add("gpg")

    with pytest.raises(MissingToolError, match="apt-get install gnupg"):
        Keyring(process=process, home=None).secret_keys()


def test_the_user_s_own_keyring_is_used_as_it_is(process: FakeProcess) -> None:
    Keyring(process=process, home=None).secret_keys()

    assert "--homedir" not in process.calls[-1].argv


def test_a_home_of_the_pipeline_is_named(process: FakeProcess) -> None:
    Keyring(process=process, home=Path("/short")).secret_keys()

    argv = process.calls[-1].argv
    assert argv[argv.index("--homedir") + 1] == "/short"


def test_a_home_too_long_for_a_socket_is_reached_by_a_short_link(
    process: FakeProcess, tmp_path: Path
) -> None:
    home = tmp_path / ("long" * 30)
    seen: list[tuple[Path, Path]] = []

    def look(argv: tuple[str, ...]) -> None:
        given = Path(argv[argv.index("--homedir") + 1])
        seen.append((given, given.resolve()))

    process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=secret_key(), effect=look))
    process.expect("gpgconf", answer=Answer(effect=look))

    with quickstart_keyring(process, home):
        pass

    (link, target), (link_at_the_end, _) = seen
    assert len(str(link)) <= LONGEST_HOME
    assert target == home.resolve()
    assert link_at_the_end == link
    assert not link.parent.exists()


def test_the_quickstart_makes_a_key_where_there_is_none(
    process: FakeProcess, tmp_path: Path
) -> None:
    templates: list[str] = []

    def generate(argv: tuple[str, ...]) -> None:
        templates.append(Path(argv[-1]).read_text(encoding="utf-8"))

    process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=""))
    process.expect("gpg", "--generate-key", answer=Answer(effect=generate))
    process.expect("gpgconf")

    with quickstart_keyring(process, tmp_path / "keys"):
        pass

    assert templates == [QUICKSTART_TEMPLATE]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_the_quickstart_keeps_the_key_it_has(process: FakeProcess, tmp_path: Path) -> None:
    process.expect("gpgconf")

    with quickstart_keyring(process, tmp_path / "keys"):
        pass

    assert process.ran("gpg", "--generate-key") == 0


def test_the_quickstart_s_agent_is_stopped_also_after_an_error(
    process: FakeProcess, tmp_path: Path
) -> None:
    process.expect("gpgconf")

    with pytest.raises(SigningKeyError), quickstart_keyring(process, tmp_path / "keys"):
        raise SigningKeyError

    assert process.ran("gpgconf", "--kill", "all") == 1


def check(process: FakeProcess, answer: Answer) -> None:
    process.expect("gpgv", answer=answer)
    directory = Path("/release")
    verify_signature(
        process, directory / "SHA256SUMS", directory / "SHA256SUMS.asc", Path("/key.gpg"), KEY
    )


def test_a_good_signature_by_the_right_key_counts(process: FakeProcess) -> None:
    check(process, Answer(stdout=valid_signature(KEY)))

    assert process.calls[-1].argv == (
        *("gpgv", "--status-fd", "1", "--keyring", "/key.gpg"),
        *("/release/SHA256SUMS.asc", "/release/SHA256SUMS"),
    )


def test_a_signature_by_a_subkey_counts_for_its_primary_key(process: FakeProcess) -> None:
    by_subkey = f"[GNUPG:] VALIDSIG {OTHER_KEY} 2026-11-21 1795262400 0 4 0 22 10 00 {KEY}\n"

    check(process, Answer(stdout=by_subkey))


def test_a_key_that_has_expired_since_is_good_for_old_files(process: FakeProcess) -> None:
    check(process, Answer(stdout=f"[GNUPG:] EXPKEYSIG {KEY[-16:]} Toy\n{valid_signature(KEY)}"))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(stdout=valid_signature(OTHER_KEY)),
        Answer(stdout=valid_signature(KEY) + valid_signature(OTHER_KEY)),
        Answer(status=1, stdout="[GNUPG:] BADSIG 0123 Toy\n", stderr="gpgv: BAD signature"),
        Answer(status=1, stdout=valid_signature(KEY), stderr="gpgv: BAD signature"),
        Answer(stdout=f"[GNUPG:] REVKEYSIG {KEY[-16:]} Toy\n{valid_signature(KEY)}"),
        Answer(stdout=f"[GNUPG:] EXPSIG {KEY[-16:]} Toy\n{valid_signature(KEY)}"),
        Answer(stdout=""),
        Answer(stdout=f"gpgv: VALIDSIG {KEY}\n"),
        Answer(stdout=f"[GNUPG:] GOODSIG {KEY[-16:]} Toy {KEY}\n"),
    ],
    ids=[
        "another signer",
        "two signers",
        "bad",
        "status says bad",
        "revoked key",
        "expired signature",
        "nothing said",
        "no status line",
        "good, but perhaps expired",
    ],
)
def test_any_other_answer_is_no_signature(answer: Answer, process: FakeProcess) -> None:
    with pytest.raises(SignatureError) as caught:
        check(process, answer)

    message = str(caught.value)
    assert message.startswith(f"SHA256SUMS: SHA256SUMS.asc is not a good signature by {KEY}")
    assert message.endswith("Do not use the file.")


def test_gpgv_is_given_this_one_key_only(process: FakeProcess, tmp_path: Path) -> None:
    keyrings: list[bytes] = []

    def look(argv: tuple[str, ...]) -> bytes:
        keyrings.append(Path(argv[argv.index("--keyring") + 1]).read_bytes())
        return valid_signature(KEY).encode()

    process.expect("gpgv", answer=Answer(effect=look))

    Keyring(process=process, home=None).verify(tmp_path / "s", tmp_path / "s.asc", KEY)

    (export,) = (call.argv for call in process.calls if "--export" in call.argv)
    assert export[-2:] == ("--export", KEY)
    assert keyrings == [b"binary key"]


# --- public keys ----------------------------------------------------------------------------


def test_a_public_key_is_exported_in_the_form_that_gpgv_reads(process: FakeProcess) -> None:
    keyring = Keyring(process=process, home=None)

    assert keyring.exported(KEY) == b"binary key"
    assert keyring.public_key(KEY) == b"armoured key\n"


@pytest.mark.parametrize("listing", ["", secret_key(OTHER_KEY), secret_key(validity="e")])
def test_a_configured_key_is_ones_own_whatever_the_keyring_has(listing: str) -> None:
    """Other releasers sign with it too."""
    process = FakeProcess()
    process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=listing))

    own = own_fingerprints(Keyring(process=process, home=None), SigningConfig(key=KEY))

    assert own == {KEY}


def test_every_key_of_the_quickstart_is_its_own(process: FakeProcess) -> None:
    """A new one is made beside one that expired, whose signatures still count."""
    listing = secret_key(OTHER_KEY, validity="e") + secret_key()
    process.expect("gpg", "--list-secret-keys", answer=Answer(stdout=listing))

    own = own_fingerprints(Keyring(process=process, home=None), SigningConfig(key="quickstart"))

    assert own == {KEY, OTHER_KEY}


SHOWN: Final = (
    f"pub:-:255:22:{KEY[-16:]}:1767225600:::-:::scSC::::ed25519:::0:\n"
    f"fpr:::::::::{KEY}:\n"
    "uid:-::::1767225600::HASH::Toy Releases <toy@toy.test>::::::::::0:\n"
    f"sub:-:255:18:{THIRD_KEY[-16:]}:1767225600::::::e::::cv25519::\n"
    f"fpr:::::::::{THIRD_KEY}:\n"
)


def test_the_keys_of_a_file_are_its_primary_keys(process: FakeProcess, tmp_path: Path) -> None:
    shown = SHOWN + SHOWN.replace(KEY, OTHER_KEY)
    process.expect("gpg", "--show-keys", answer=Answer(stdout=shown))

    found = key_fingerprints(process, tmp_path / "KEY.asc")

    assert found == {KEY, OTHER_KEY}
    assert "--import" not in process.calls[-1].argv


@pytest.mark.parametrize(
    "answer",
    [Answer(stdout=""), Answer(status=2, stderr="gpg: no valid OpenPGP data found.")],
    ids=["nothing", "an error"],
)
def test_a_file_without_a_key_is_named(
    process: FakeProcess, tmp_path: Path, answer: Answer
) -> None:
    process.expect("gpg", "--show-keys", answer=answer)

    with pytest.raises(SignatureError) as caught:
        key_fingerprints(process, tmp_path / "KEY.asc")

    assert str(caught.value).startswith(f"{tmp_path / 'KEY.asc'}: there is no public key of")


def test_an_armoured_key_is_made_binary(process: FakeProcess, tmp_path: Path) -> None:
    assert binary_keys(process, tmp_path / "KEY.asc") == b"binary key"
    assert process.ran("gpg", "--dearmor", str(tmp_path / "KEY.asc")) == 1


# --- texts that are signed in clear ---------------------------------------------------------

MESSAGE: Final = CLEAR_BEGIN + b"Hash: SHA512\n\ntext\n" + CLEAR_END


def checked(*status: str, message: bytes = MESSAGE, exit_status: int = 0) -> str:
    """Let gpgv say this of a message; return who signed it."""

    def answer(argv: tuple[str, ...]) -> bytes:
        Path(argv[argv.index("--output") + 1]).write_bytes(b"text\n")
        return "".join(f"[GNUPG:] {line}\n" for line in status).encode()

    process = FakeProcess()
    process.expect("gpgv", "--output", answer=Answer(effect=answer, status=exit_status))
    found = verified_text(process, message, b"binary keys")
    assert found.text == b"text\n"
    return found.fingerprint


GOOD: Final = ("GOODSIG 1234 somebody", f"VALIDSIG 5678 2026-11-21 0 4 0 22 10 01 {KEY}")


def test_a_text_with_one_good_signature_is_whose_key_it_is() -> None:
    assert checked(*GOOD) == KEY


@pytest.mark.parametrize(
    "status",
    [
        (),
        ("BADSIG 1234 somebody",),
        ("EXPKEYSIG 1234 somebody", GOOD[1]),
        ("REVKEYSIG 1234 somebody", GOOD[1]),
        ("ERRSIG 1234 22 10 01 0 9", "NO_PUBKEY 1234"),
        (*GOOD, *GOOD),
        (*GOOD, "ERRSIG 1234 22 10 01 0 9"),
        (GOOD[0],),
    ],
    ids=["none", "bad", "expired", "revoked", "unknown", "two", "one unknown", "not valid"],
)
def test_a_text_with_any_other_is_not_believed(status: tuple[str, ...]) -> None:
    """Apt does not take what an expired key signed either."""
    with pytest.raises(SignatureError, match="not a text with a good signature"):
        checked(*status, exit_status=2 if "ERRSIG" in " ".join(status) else 0)


@pytest.mark.parametrize("message", [b"unsigned\n" + MESSAGE, MESSAGE + b"unsigned\n", b""])
def test_a_message_with_more_around_it_is_not_believed(message: bytes) -> None:
    with pytest.raises(SignatureError):
        checked(*GOOD, message=message)


def test_a_key_in_armour_has_the_checksum_of_rfc_4880() -> None:
    """The block that GnuPG makes of these bytes."""
    assert armoured(b"hello world") == (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\naGVsbG8gd29ybGQ=\n=sDy3\n"
        b"-----END PGP PUBLIC KEY BLOCK-----\n"
    )
