"""Encryption in age's format: round trips, files of another implementation, and what is refused."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from tercet.errors import ConfigError
from tercet.pki.age import check_recipient, decrypt, encrypt, is_encrypted, new_key, read_key

CHUNK = 64 << 10
# Made by rage, an implementation in Rust, whose header has a stanza of an unknown kind as well.
OTHERS_KEY = "AGE-SECRET-KEY-10QFKWAKNWA8L7FGM3ZA2NVNXWX0AGTCMYTQPWPP4MJ3NPCU07DXSSVCFZ7"
OTHERS_RECIPIENT = "age1kfk58wkdxcphvyct289dapfe8wswwc6dsdumsrq3qsxzzrxe9y7sg6jz2r"
OTHERS_FILE = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBUL2dIeVVvU1hZZ2N1T3JaM0NoL3JXSjh2S0l5dFJtakZ4eTFaRjdpbFdjCjVoc3dMOFNvVmJQSUVo"
    "THp1cDEyM3hIRVA2WTlpMmZpaFlxUW51N3F5NlkKLT4gKSI1LWdyZWFzZQpib21aQiswdDMyRHNiRFd5R01NKys4ZWJBbXZpTzc5YytpZXhVNzFiL2VGRk83"
    "ZWFkZXRrNEgwN3dTTkNFMnUyCmVaMWdRME1adlh3SFFZUTJUVzV2dmNoeEI1dlJrZwotLS0gRHZkOW4yRUlhdUxUUk1sZkoyRzAyOS8vR1lrcE9IaTFSMm55"
    "VENxTThhbwqjWRgvp2k+f4MWi1etLHqSLGzRb48/XiFWbQ7fERukOoE+A7o12dFKd4spcL2EaHR6sZtXyW8T1DVvguQeaQ=="
)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_comes_back(tmp_path: Path, size: int) -> None:
    plain, encrypted, back = tmp_path / "plain", tmp_path / "encrypted", tmp_path / "back"
    plain.write_bytes(os.urandom(size))
    key = new_key()
    encrypt(plain, encrypted, key.recipient)
    assert is_encrypted(encrypted)
    assert not is_encrypted(plain)
    decrypt(encrypted, back, key)
    assert back.read_bytes() == plain.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in (encrypted, back)} == {0o600}


def test_a_file_of_another_implementation_is_read(tmp_path: Path) -> None:
    (tmp_path / "encrypted").write_bytes(OTHERS_FILE)
    key = read_key(f"# created: 2026-01-02\n# public key: {OTHERS_RECIPIENT}\n{OTHERS_KEY}\n")
    assert key.recipient == OTHERS_RECIPIENT
    decrypt(tmp_path / "encrypted", tmp_path / "plain", key)
    assert (tmp_path / "plain").read_bytes() == b"made by another implementation"


def test_damage_and_cuts_are_found(tmp_path: Path) -> None:
    plain, encrypted, back = tmp_path / "plain", tmp_path / "encrypted", tmp_path / "back"
    plain.write_bytes(os.urandom(2 * CHUNK + 5))
    key = new_key()
    encrypt(plain, encrypted, key.recipient)
    content = encrypted.read_bytes()
    header = content.index(b"\n--- ") + 48
    for damaged in (
        content[: -(5 + 16)],  # without the last chunk
        content[:-1],
        content[: header + 100] + bytes([content[header + 100] ^ 1]) + content[header + 101 :],
        content.replace(b"--- ", b"--- A", 1),
        content[:20],
        b"",
    ):
        encrypted.write_bytes(damaged)
        with pytest.raises(ConfigError):
            decrypt(encrypted, back, key)


def test_another_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encrypted").write_bytes(OTHERS_FILE)
    key = new_key()
    with pytest.raises(ConfigError, match=f"encrypted for another key than {key.recipient}"):
        decrypt(tmp_path / "encrypted", tmp_path / "plain", key)
    assert key.secret not in repr(key)


@pytest.mark.parametrize("text", ["", "age1", "age1qqqq", OTHERS_RECIPIENT[:-1] + "q", OTHERS_KEY, OTHERS_RECIPIENT + "q"])
def test_a_mistyped_recipient_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a recipient of age"):
        check_recipient(text)


def test_a_file_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="no AGE-SECRET-KEY-1"):
        read_key("# nothing\n")
    with pytest.raises(ConfigError) as refused:
        read_key(OTHERS_KEY[:-1] + "Q")
    assert OTHERS_KEY[:30] not in str(refused.value)
