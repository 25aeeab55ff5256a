"""The range of all keys with a prefix."""


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with `prefix`: `b` for `a` and for `a\\xff`; `\\0`, which means no end, if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"
