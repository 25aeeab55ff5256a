"""What a field's descriptor tells, in the words of every version of protobuf.

`FieldDescriptor.is_repeated` is new in protobuf 6.31; `label`, which it replaces, warns of its removal.
"""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

_HAS_IS_REPEATED = hasattr(FieldDescriptor, "is_repeated")


def is_repeated(field: FieldDescriptor) -> bool:
    if _HAS_IS_REPEATED:
        return field.is_repeated
    return bool(getattr(field, "label") == FieldDescriptor.LABEL_REPEATED)  # noqa: B009, absent from the newest types
