"""What names a version: the recipe of its vectors, their precision, its inputs and its rows.

The recipe is all that defines a vector. Numerics (precision, backend, device, batching) may move
its last digits and no more, so of them only the precision names a version: the others are what
happened to be there.
"""

from collections.abc import Mapping
from typing import Any

from embedkit.formats.canonical import canonical_json
from embedkit.hashes.digests import digest

NUMERICS = ("backend", "batch_tokens", "device", "precision", "unpadded")
"""Ingredients of a vector that are not of its recipe."""

_OF_FIRST_RELEASE = frozenset(
    {
        "architecture", "chunk", "chunk_overlap", "chunk_tokens", "dense", "dimension",
        "lower_case", "max_tokens", "normalize", "pooling", "pooling_skips", "prompt", "tokenizer",
        "weights", "backend", "batch_tokens", "device", "precision",
    }
)  # fmt: skip
"""Ingredients that the first release hashed whatever their values were."""


def recipe_of(ingredients: Mapping[str, Any]) -> str:
    """Returns the hash of all that defines a vector, 32 hex digits.

    Args:
        ingredients: Names and JSON values of all that plays a part in a vector, in any order. One
            that is null, false, zero or empty is neutral: it may as well be missing, so that an
            ingredient of a later release changes nothing where it is not used.
    """
    return _hash({name: value for name, value in ingredients.items() if name not in NUMERICS})


def numerics_of(ingredients: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ingredients that are not of the recipe."""
    return {name: ingredients[name] for name in NUMERICS if name in ingredients}


def fingerprint(ingredients: Mapping[str, Any]) -> str:
    """Returns the hash of recipe and precision, 32 hex digits.

    Args:
        ingredients: See ``recipe_of``.
    """
    return _hash(naming(ingredients))


def naming(ingredients: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ingredients that a version is named after: the recipe and the precision."""
    return {
        name: value
        for name, value in ingredients.items()
        if name == "precision" or name not in NUMERICS
    }


def fingerprint_of_first_release(ingredients: Mapping[str, Any]) -> str:
    """Returns what the first release, which hashed all numerics, named the same vectors by.

    Args:
        ingredients: See ``recipe_of``.
    """
    hashed = {
        name: value
        for name, value in ingredients.items()
        if name in _OF_FIRST_RELEASE or (value and name not in NUMERICS)
    }
    return digest(canonical_json(hashed).decode())


def version_name(fingerprint: str, inputs_digest: str, job_digest: str) -> str:
    """Names a version after what is in it, so that the same job finds it again.

    Args:
        fingerprint: What changes a vector.
        inputs_digest: Which records are read.
        job_digest: What else changes the dataset, such as its columns.
    """
    return "v" + digest(fingerprint, inputs_digest, job_digest)[:12]


def _hash(ingredients: Mapping[str, Any]) -> str:
    used = {name: value for name, value in ingredients.items() if value}
    return digest(canonical_json(used).decode())
