"""Fingerprints of OpenPGP keys, without any program: a fresh Debian or Ubuntu has none that could tell them.

Sources: RFC 4880, section 4.2 (packets), 4.3 (tag 6 is a primary key, tag 14 a subkey), 6.2 (ASCII armour) and 12.2
(the fingerprint of a version 4 key is the SHA-1 of 0x99, the packet's length in two bytes, and the packet).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_PRIMARY_KEY = 6
_ONE_BYTE, _TWO_BYTES, _FOUR_BYTES = 192, 224, 255
_ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.+?)-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)


class KeyFileError(ValueError):
    """A file is no OpenPGP public key; the text says why."""


def binary(content: bytes) -> bytes:
    """Return the packets of a key file, which may be armoured.

    Raises:
        KeyFileError: the armour is damaged.
    """
    if b"-----BEGIN PGP" not in content:
        return content
    found = _ARMOUR.search(content)
    if found is None:
        raise KeyFileError("its armour is damaged")
    lines = [line for line in found[1].split() if not line.startswith(b"=")]  # the line with = is a checksum
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        raise KeyFileError("its armour is damaged") from error


def _packets(content: bytes) -> list[tuple[int, bytes]]:
    """Split packets into tag and body."""
    result = []
    position = 0
    while position < len(content):
        head = content[position]
        if not head & 0x80:
            raise KeyFileError("it does not consist of OpenPGP packets")
        lengths = content[position + 1 : position + 6]
        if not lengths:
            raise KeyFileError("it is cut off")
        if head & 0x40:  # new format
            tag = head & 0x3F
            if lengths[0] < _ONE_BYTE:
                size, used = lengths[0], 1
            elif lengths[0] < _TWO_BYTES:
                size, used = ((lengths[0] - _ONE_BYTE) << 8) + lengths[1] + _ONE_BYTE, 2
            elif lengths[0] == _FOUR_BYTES:
                size, used = int.from_bytes(lengths[1:5], "big"), 5
            else:
                raise KeyFileError("it has a packet of unknown length, which keys do not have")
        else:
            tag, kind = (head >> 2) & 0x0F, head & 0x03
            used = (1, 2, 4, 0)[kind]
            if not used:
                raise KeyFileError("it has a packet of unknown length, which keys do not have")
            size = int.from_bytes(lengths[:used], "big")
        start = position + 1 + used
        if start + size > len(content):
            raise KeyFileError("it is cut off")
        result.append((tag, content[start : start + size]))
        position = start + size
    return result


def fingerprints(content: bytes) -> list[str]:
    """Return the fingerprints of the primary keys in a file, 40 hexadecimal digits each, in upper case.

    Args:
        content: the file's content, armoured or not.

    Raises:
        KeyFileError: it is no key file, or a key in it is not of version 4.
    """
    try:
        packets = _packets(binary(content))
    except IndexError as error:
        raise KeyFileError("it is cut off") from error
    found = []
    for tag, body in packets:
        if tag == _PRIMARY_KEY:
            if body[:1] != b"\x04":
                raise KeyFileError(f"its key is of version {body[:1].hex()}, not 4")
            digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False)
            found.append(digest.hexdigest().upper())
    if not found:
        raise KeyFileError("there is no public key in it")
    return found
