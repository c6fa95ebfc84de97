"""JSON objects with the fields of a dataclass, which other releases may have written.

A field with a default may be missing: the record was written before there was such a field. A
field that this release does not know is kept, and stands again in what is written of the record.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    NonNegativeInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from embedkit.formats.canonical import CHECKSUM, canonical_json, checksum_in_holds, with_checksum

Count = NonNegativeInt
"""Whole numbers, not negative."""

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
"""Hashes of 128 bits as hex."""


@dataclass(frozen=True)
class JsonRecord:
    """A JSON object with the fields of a dataclass, checked when it is read.

    Subclasses are frozen dataclasses without slots; so are the objects in them that may grow.

    Attributes:
        unknown: Fields of other releases; they do not count when records are compared.
    """

    unknown: dict[str, Any] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)

    @model_validator(mode="after")
    def _keep_unknown(self) -> Self:
        found = vars(self)
        known = self.__dataclass_fields__
        if len(found) > len(known):
            for name in found.keys() - known.keys():
                self.unknown[name] = found.pop(name)
        return self

    @model_serializer(mode="wrap")
    def _with_unknown(self, fields: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        known = fields(self)
        known.pop("unknown")
        return {**self.unknown, **known}

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        values: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return values

    def to_json(self) -> bytes:
        """Serializes the record in one way only, with a checksum of it."""
        return canonical_json(with_checksum(self.to_dict()))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what ``to_json`` wrote, of this release or another.

        Raises:
            ValueError: It is not such a record, or not as it was written; the message says which.
        """
        try:
            record: Self = _adapter(cls).validate_json(data)
        except ValidationError as error:
            raise ValueError(_fault(error)) from error
        if not checksum_in_holds(data):
            raise ValueError("changed after it was written")
        record.unknown.pop(CHECKSUM, None)
        return record

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads a record that stands in another one, as ``to_dict`` gave it.

        Raises:
            ValueError: It is not such a record; the message says why.
        """
        try:
            # JSON values have lists for tuples.
            record: Self = _adapter(cls).validate_python(values, strict=False)
        except ValidationError as error:
            raise ValueError(_fault(error)) from error
        return record


@dataclass(frozen=True)
class LongRecord(JsonRecord):
    """A record that may list very many things, and so is written on one line."""

    def to_json(self) -> bytes:
        """Serializes the record on one line, with a checksum of it."""
        return json.dumps(with_checksum(self.to_dict()), sort_keys=True).encode() + b"\n"


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return f"not valid JSON ({faults[0]['ctx']['error']})"
    if own := [str(fault["ctx"]["error"]) for fault in faults if fault["type"] == "value_error"]:
        return own[0]
    names = sorted({str(fault["loc"][0]) for fault in faults if fault["loc"]})
    return f"wrong or missing fields {', '.join(names)}" if names else "not a JSON object"
