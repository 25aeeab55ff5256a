"""Keys as a client's user writes them, and as the cluster stores them: text becomes UTF-8, a namespace becomes a prefix.

    KeySpace(b"/app/").key("a")            b"/app/a"
    KeySpace(b"/app/").prefix("")          (b"/app/", b"/app0"): all keys of the namespace
    KeySpace(b"/app/").strip(b"/app/a")    b"a"

Source: etcd client/v3/namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

from tercet.client.prefix import prefix_end

Text = bytes | bytearray | memoryview | str
"""Keys and values as arguments. Results are bytes."""
_ALL = b"\0"  # as a key: the first one; as an end: no end


def to_bytes(text: Text) -> bytes:
    """Raises TypeError for anything but bytes, bytearray, memoryview and str."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, bytearray | memoryview):
        raise TypeError(f"keys and values are bytes or str, not {type(text).__name__}")
    return bytes(text)


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The keys that begin with `namespace`; all of them by default."""

    namespace: bytes = b""

    def key(self, key: Text) -> bytes:
        return self.namespace + to_bytes(key)

    def prefix(self, prefix: Text) -> tuple[bytes, bytes]:
        """Key and range_end of the keys that begin with `prefix`; "" for all."""
        full = self.namespace + to_bytes(prefix)
        return (full, prefix_end(full)) if full else (_ALL, _ALL)

    def range(self, start: Text, end: Text | None) -> tuple[bytes, bytes]:
        """Key and range_end of the keys from `start` up to, not including, `end`; None for no end."""
        last = None if end is None else to_bytes(end)
        first = self.namespace + to_bytes(start)
        if last is None or last == _ALL:
            return first or _ALL, prefix_end(self.namespace) if self.namespace else _ALL
        return first or _ALL, self.namespace + last

    def strip(self, key: bytes) -> bytes:
        return key[len(self.namespace) :]

    def inside(self, namespace: Text) -> KeySpace:
        """A namespace in this one."""
        return KeySpace(self.namespace + to_bytes(namespace))
