"""Small JSON objects with the fields of a dataclass, checked when they are read."""

import json
from dataclasses import MISSING, asdict, fields
from typing import Any, Self

from embedkit.dataset.version import CHECKSUM, canonical_json, checksum_holds, with_checksum
from embedkit.errors import IntegrityError

REDO = "remove it and run the version's job again, which encodes its block anew"


class JsonRecord:
    """A small JSON object with the fields of a dataclass.

    A field with a default may be missing: the record was written before there was such a field.
    """

    def to_json(self) -> bytes:
        """Serializes the record in one way only, with a checksum of it."""
        record: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return canonical_json(with_checksum(record))

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Reads a record.

        Args:
            data: What ``to_json`` wrote.
            name: What an error calls it.

        Raises:
            IntegrityError: It is not such a record.
        """
        try:
            record = json.loads(data)
        except ValueError as error:
            raise IntegrityError(f"{name}: not valid JSON ({error}); {REDO}") from error
        if not isinstance(record, dict):
            raise IntegrityError(f"{name}: not a JSON object; {REDO}")
        if not checksum_holds(record):
            raise IntegrityError(f"{name}: changed after it was written; {REDO}")
        record.pop(CHECKSUM, None)
        known = fields(cls)  # type: ignore[arg-type]
        kinds = {field.name: field.type for field in known}
        required = {field.name for field in known if field.default is MISSING}
        wrong = sorted((record.keys() - kinds.keys()) | (required - record.keys())) or sorted(
            field for field, value in record.items() if not _fits(value, kinds[field])
        )
        if wrong:
            raise _wrong(name, wrong)
        tuples = {name: tuple(value) for name, value in record.items() if kinds[name] is tuple}
        found = cls(**{**record, **tuples})
        if wrong := found.wrong_fields():
            raise _wrong(name, wrong)
        return found

    def wrong_fields(self) -> list[str]:
        """Returns the fields whose type is right and whose value is not."""
        return []


def _wrong(name: str, fields: list[str]) -> IntegrityError:
    return IntegrityError(f"{name}: wrong or missing fields {', '.join(fields)}; {REDO}")


def _fits(value: Any, kind: Any) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, list if kind is tuple else kind)
