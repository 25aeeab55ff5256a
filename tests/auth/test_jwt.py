"""JSON Web Tokens in all signing methods: what is signed, what is accepted, what is refused."""

from __future__ import annotations

import base64
import hmac
import json
import string
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tercet.auth.jwt import METHODS, JwtKey, JwtTokens
from tercet.errors import TOKEN_VERIFY_ONLY, ConfigError, RequestError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
SECRET = b"-----BEGIN PUBLIC KEY-----\nany bytes are a secret\n"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def private_key(method: str) -> Any:
    if method in CURVES:
        return ec.generate_private_key(CURVES[method])
    return ed25519.Ed25519PrivateKey.generate() if method == "EdDSA" else RSA


def private_pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made


def public_pem(key: Any) -> bytes:
    made: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return made


def hmac_tokens(clock: Clock, secret: bytes = SECRET) -> JwtTokens:
    return JwtTokens(JwtKey("HS256", private=secret, public=b""), ttl_seconds=300, now=clock)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_signed_token_is_found_with_the_public_key_alone(method: str) -> None:
    if method.startswith("HS"):
        private, public, verifying = SECRET, b"", SECRET
    else:
        key = private_key(method)
        private, public, verifying = private_pem(key), public_pem(key), b""
    token = JwtTokens(JwtKey(method, private=private, public=public), ttl_seconds=300, now=Clock()).sign("ann", 9).encode()
    tokens = JwtTokens(JwtKey(method, private=verifying, public=public), ttl_seconds=300, now=Clock())
    found = tokens.find(token)
    assert found is not None
    assert (found.username, found.revision) == ("ann", 9)
    header, payload, signature = token.split(b".")
    assert json.loads(base64.urlsafe_b64decode(payload + b"==")) == {"username": "ann", "revision": 9, "exp": int(NOW) + 300}
    assert json.loads(base64.urlsafe_b64decode(header + b"=="))["alg"] == method
    assert tokens.find(b".".join((header, payload, signature[:-4] + b"AAAA"))) is None
    if not method.startswith("HS"):
        with pytest.raises(RequestError) as refused:
            tokens.sign("ann", 9)
        assert refused.value is TOKEN_VERIFY_ONLY


def test_each_verification_is_accounted_for() -> None:
    spent: list[int] = []
    key = JwtKey("HS256", private=SECRET, public=b"")
    tokens = JwtTokens(key, ttl_seconds=300, now=Clock(), spend=spent.append)
    token = tokens.sign("ann", 9).encode()
    for _ in range(2):
        assert tokens.find(token) is not None
    assert len(spent) == 1, "it is remembered"
    for _ in range(2):
        assert tokens.find(b"1," * 6400) is None
    assert spent[1:] == [220, 220]


def test_a_token_expires_also_when_it_is_remembered() -> None:
    clock = Clock()
    tokens = hmac_tokens(clock)
    token = tokens.sign("ann", 2).encode()
    clock.now += 299
    assert tokens.find(token) is not None
    clock.now += 1
    assert tokens.find(token) is None
    assert tokens.find(token) is None


def test_a_verified_token_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = hmac_tokens(Clock())
    token = tokens.sign("ann", 2).encode()
    assert tokens.find(token) is not None
    monkeypatch.setattr(tokens._signatures, "claims_of", None)
    assert tokens.find(token) is not None


@pytest.mark.parametrize(
    "claims",
    [
        {"revision": 1},
        {"username": "ann"},
        {"username": 1, "revision": 1},
        {"username": "ann", "revision": "1"},
        {"username": "ann", "revision": True},
        {"username": "ann", "revision": 1, "exp": NOW - 1},
        {"username": "ann", "revision": 1, "exp": "soon"},
        {"username": "ann", "revision": 1, "exp": None},
        {"username": "ann", "revision": 1, "exp": 1e300},
        {"username": "ann", "revision": 1, "nbf": NOW + 1},
        [],
    ],
)
def test_claims_that_are_missing_wrong_or_out_of_time_are_refused(claims: Any) -> None:
    signed = jwt.PyJWS().encode(json.dumps(claims).encode(), b"k" * 32, "HS256")
    assert hmac_tokens(Clock(), b"k" * 32).find(signed.encode()) is None


def test_claims_that_etcd_does_not_know_are_ignored() -> None:
    claims = {"username": "ann", "revision": 1, "aud": "x", "iat": NOW + 60, "sub": 5}
    signed = jwt.PyJWS().encode(json.dumps(claims).encode(), b"k" * 32, "HS256")
    assert hmac_tokens(Clock(), b"k" * 32).find(signed.encode()) is not None


@pytest.mark.parametrize(
    ("revision", "found"), [(0, 0), (-0.5, 0), (6.9, 6), (1 << 64, (1 << 64) - 1), (1e300, (1 << 64) - 1), (-1, (1 << 64) - 1)]
)
def test_a_revision_is_converted_as_in_etcd(revision: float, found: int) -> None:
    claim = hmac_tokens(Clock()).find(signed(f'{{"username":"ann","revision":{revision},"exp":0,"nbf":1e300}}'.encode()))
    assert claim is not None
    assert claim.revision == found


def signed(payload: bytes, header: bytes = b'{"alg":"HS256"}') -> bytes:
    """A token of any content with a right signature."""
    content = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = hmac.digest(SECRET, content, "sha256")
    return content + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


CLAIMS = b'{"username":"ann","revision":1}'


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","kid":1}',
        b'{"alg":"HS256","crit":["exp"]}',
        b'{"alg":"HS256","b64":false}',
        b'{"alg":"none","alg":"HS256"}',
        b'{"alg":"HS256","x":"\xff"}',
    ],
)
def test_a_header_says_only_the_algorithm(header: bytes) -> None:
    assert hmac_tokens(Clock()).find(signed(CLAIMS, header)) is not None


@pytest.mark.parametrize(
    "header",
    [
        b'\xef\xbb\xbf{"alg":"HS256"}',
        '{"alg":"HS256"}'.encode("utf-16-le"),
        b'{"alg":"HS256","x":NaN}',
        b'{"alg":"HS256","x":1e999}',
        b'{"alg":"HS256","alg":"none"}',
        b'{"alg":["HS256"]}',
        b'{"alg":"hs256"}',
        b'["HS256"]',
        b'{"alg":"HS256"',
        b"[" * 3000,
    ],
)
def test_a_header_that_is_not_an_object_in_json_is_refused(header: bytes) -> None:
    assert hmac_tokens(Clock()).find(signed(CLAIMS, header)) is None


@pytest.mark.parametrize(
    "payload",
    [
        CLAIMS.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + CLAIMS,
        b'{"username":"ann","revision":NaN}',
        b'{"username":"ann","revision":1,"x":1' + b"0" * 400 + b"}",
        b'{"username":"ann","revision":1,"x":' + b"[" * 20_000,
        b"null",
    ],
)
def test_claims_that_are_not_an_object_in_json_are_refused(payload: bytes) -> None:
    assert hmac_tokens(Clock()).find(signed(payload)) is None


def test_a_username_is_text_that_can_be_encoded() -> None:
    claim = hmac_tokens(Clock()).find(signed(b'{"username":"\\ud800\xff","revision":1}'))
    assert claim is not None
    assert claim.username == "\ufffd\ufffd"


def test_the_segments_are_base64url_without_padding() -> None:
    tokens = hmac_tokens(Clock())
    token = signed(CLAIMS)
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    last = letters.index(chr(token[-1]))
    for bits in range(4):  # 32 bytes leave two bits of the last letter unused
        assert tokens.find(token[:-1] + letters[last & ~3 | bits].encode()) is not None
    for other in (token + b"=", b"." + token, token + b".", token[:-1], token + b"AAAA", token[:-3]):
        assert tokens.find(other) is None


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a key on a curve of 256 bits, not 384"):
        JwtKey("ES256", private=private_pem(private_key("ES384")), public=b"")


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_a_token_of_another_algorithm_is_refused(algorithm: str) -> None:
    claims = json.dumps({"username": "root", "revision": 1}).encode()
    key: Any = None if algorithm == "none" else b"k" * 64
    signed = jwt.PyJWS().encode(claims, key, algorithm)
    assert hmac_tokens(Clock(), b"k" * 64).find(signed.encode()) is None


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: a token signed by HMAC with the public key as secret."""
    public = public_pem(RSA)
    forged = hmac_tokens(Clock(), public).sign("root", 1).encode()
    assert JwtTokens(JwtKey("RS256", private=b"", public=public), ttl_seconds=300, now=Clock()).find(forged) is None


@pytest.mark.parametrize("garbage", [b"", b"a", b"a.b", b"a.b.c", b"....", b"\xff.\xff.\xff", b"e30.e30.", b"a" * 10_000])
def test_what_is_no_token_is_refused(garbage: bytes) -> None:
    assert hmac_tokens(Clock()).find(garbage) is None


def test_keys_that_are_missing_or_do_not_fit_are_refused() -> None:
    other = private_key("ES256")
    with pytest.raises(ConfigError, match="auth: missing key data"):
        JwtKey("RS256", private=b"", public=b"")
    with pytest.raises(ConfigError, match="auth: missing key data"):
        JwtKey("HS256", private=b"", public=SECRET)
    with pytest.raises(ConfigError, match="auth: public and private keys don't match"):
        JwtKey("ES256", private=private_pem(other), public=public_pem(private_key("ES256")))
    with pytest.raises(ConfigError, match="another kind"):
        JwtKey("RS256", private=private_pem(other), public=b"")
    with pytest.raises(ConfigError, match="cannot read the public key"):
        JwtKey("RS256", private=b"", public=b"garbage")
