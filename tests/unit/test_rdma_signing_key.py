"""A repository's signing key, pinned by its fingerprint, fetched from a server of the test's."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import openpgp
from ansible_collections.disagg.e2e.plugins.modules import signing_key
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

KEYS = Path(__file__).parent / "data" / "keys"
# As gpg told them when the keys were made.
ONE, TWO = "A69A95839C4DE88D659510B520E405A62F7471A6", "F5A859B758E12279F3D90EC5C75096B7AC2FA1C1"
RSA = "AE799995C00EFAA846CB8496851EE22A89D369BD"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """Serve the keys and return the server's URL."""
    handler = functools.partial(_Quiet, directory=str(KEYS))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with contextlib.ExitStack() as stack:
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the test's server itself, whatever proxy the environment names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def have(path: Path, url: str, fingerprint: str = ONE, *, check: bool = False) -> dict[str, Any]:
    return run(signing_key, check=check, url=url, fingerprint=fingerprint, path=str(path))


@pytest.mark.parametrize(("file", "expected"), [("one", [ONE]), ("both", [ONE, TWO]), ("rsa-with-subkey", [RSA])])
def test_fingerprints_are_gpgs(file: str, expected: list[str]) -> None:
    content = (KEYS / f"{file}.asc").read_bytes()
    assert openpgp.fingerprints(content) == expected
    assert openpgp.fingerprints(openpgp.binary(content)) == expected


def test_packets_of_the_new_format_are_read() -> None:
    body = b"\x04" + bytes(300)
    expected = openpgp.fingerprints(b"\x99" + len(body).to_bytes(2, "big") + body)
    size = len(body) - 192
    assert openpgp.fingerprints(bytes([0xC6, 192 + (size >> 8), size & 0xFF]) + body) == expected
    assert openpgp.fingerprints(bytes([0xC6, 255]) + len(body).to_bytes(4, "big") + body) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no public key"),
        (b"<html>404</html>", "does not consist of OpenPGP packets"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAA", "armour is damaged"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----", "armour is damaged"),
        (b"\x99\x01\x00\x04", "cut off"),
        (b"\x99", "cut off"),
        (b"\xc6\xc1", "cut off"),
        (b"\x98\x01\x03", "version 03"),
        (b"\x9b\x04", "unknown length"),
        (b"\xc6\xe1\x04", "unknown length"),
    ],
)
def test_what_is_no_key_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(openpgp.KeyFileError, match=said):
        openpgp.fingerprints(content)


def test_a_key_is_fetched_once(site: str, tmp_path: Path) -> None:
    keyring = tmp_path / "keyrings" / "vendor.gpg"
    spaced = " ".join(ONE[start : start + 4] for start in range(0, 40, 4)).lower()
    assert have(keyring, f"{site}/one.asc", spaced, check=True)["changed"] is True
    assert not keyring.exists()
    first = have(keyring, f"{site}/one.asc", spaced)
    assert (first["changed"], first["fingerprint"]) == (True, ONE)
    assert keyring.read_bytes() == openpgp.binary((KEYS / "one.asc").read_bytes())
    assert keyring.stat().st_mode & 0o777 == 0o644
    second = have(keyring, "http://127.0.0.1:1/is-not-asked", ONE)
    assert (second["changed"], second["fingerprint"]) == (False, ONE)


@pytest.mark.parametrize(("file", "found"), [("rsa-with-subkey", RSA), ("both", f"{ONE} and {TWO}")])
def test_another_key_or_one_more_is_not_trusted(site: str, tmp_path: Path, file: str, found: str) -> None:
    keyring = tmp_path / "vendor.gpg"
    result = have(keyring, f"{site}/{file}.asc")
    assert result["failed"] is True
    assert f"has the fingerprint {found}, not {ONE}: it is not trusted" in result["msg"]
    assert not keyring.exists()


def test_a_keyring_with_another_key_is_replaced(site: str, tmp_path: Path) -> None:
    keyring = tmp_path / "vendor.gpg"
    keyring.write_bytes((KEYS / "both.asc").read_bytes())
    assert have(keyring, f"{site}/one.asc")["changed"] is True
    assert openpgp.fingerprints(keyring.read_bytes()) == [ONE]


@pytest.mark.parametrize(
    ("url", "said"),
    [("README.md", "is no signing key: it does not consist of OpenPGP packets"), ("none", "404")],
)
def test_what_the_server_says_instead_is_told(site: str, tmp_path: Path, url: str, said: str) -> None:
    result = have(tmp_path / "vendor.gpg", f"{site}/{url}")
    assert result["failed"] is True
    assert said in result["msg"]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = have(tmp_path / "vendor.gpg", "http://127.0.0.1:1/key")
    assert result["msg"].startswith("the signing key cannot be fetched from http://127.0.0.1:1/key: ")


def test_what_is_no_fingerprint_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    result = have(tmp_path / "vendor.gpg", "http://127.0.0.1:1/key", "20E405A62F7471A6")
    assert "is no fingerprint: 40 hexadecimal digits are needed" in result["msg"]
