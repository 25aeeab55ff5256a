"""When a failed call is repeated.

A call that reads is repeated when the connection breaks or a member answers UNAVAILABLE. A write is repeated only if it
certainly was not processed: no connection, a stream that the server refused, or one above the last that its GOAWAY names.
All attempts share the deadline of the call; after each quorum of endpoints there is a pause.
Source: etcd client/v3/retry.go and retry_interceptor.go.
"""

from __future__ import annotations

from enum import Enum


class Retry(Enum):
    """A policy, of a client or of one call.

    OFF: no call is repeated. SAFE: reads are, and writes that were certainly not processed. ALWAYS: writes too, which may then
    happen twice; for writes that can be repeated, such as a put of the same value.
    """

    OFF = "off"
    SAFE = "safe"
    ALWAYS = "always"
