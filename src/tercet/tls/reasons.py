"""Why a handshake failed, in the words of Go's crypto/tls, which etcd logs.

Source: Go crypto/tls (alert.go, handshake_server.go), crypto/x509 (verify.go), by etcd's log lines.
"""

from __future__ import annotations

import ssl

NOT_TLS = "tls: first record does not look like a TLS handshake"
_UNVERIFIED = "tls: failed to verify certificate: x509: "
_EXPIRED = "certificate has expired or is not yet valid"
_UNKNOWN_AUTHORITY = "certificate signed by unknown authority"
# X509_V_ERR_* of OpenSSL.
_VERIFY_CODES = {
    2: _UNKNOWN_AUTHORITY,
    9: _EXPIRED,
    10: _EXPIRED,
    18: _UNKNOWN_AUTHORITY,
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    26: "certificate specifies an incompatible key usage",
}
_WEAK = range(66, 69)  # EE_KEY_TOO_SMALL, CA_KEY_TOO_SMALL, CA_MD_TOO_WEAK
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "HTTP_REQUEST": NOT_TLS,
    "HTTPS_PROXY_REQUEST": NOT_TLS,
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
}
_ALERTS = {
    "BAD_CERTIFICATE": "bad certificate",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_REQUIRED": "certificate required",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "PROTOCOL_VERSION": "protocol version not supported",
    "UNKNOWN_CA": "unknown certificate authority",
    "UNSUPPORTED_CERTIFICATE": "unsupported certificate",
}


def rejection_reason(error: ssl.SSLError, refusal: str = "") -> str:
    """One line for the log. error: raised by the handshake, or by the first read after it.

    refusal: why OpenSSL has been made to refuse a certificate, as one with a key that is too weak.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if refusal and error.verify_code in _WEAK:
            return refusal
        return _UNVERIFIED + _VERIFY_CODES.get(error.verify_code, error.verify_message)
    reason = error.reason or ""
    if reason in _REASONS:
        return _REASONS[reason]
    _, is_alert, alert = reason.partition("_ALERT_")
    if is_alert:
        return f"remote error: tls: {_ALERTS.get(alert, alert.replace('_', ' ').lower())}"
    return f"tls: {reason.replace('_', ' ').lower() or error}"
