"""The rows of a complete version as a dataset of Ray Data."""

import os
from collections.abc import Sequence
from typing import Any

from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.rows import checked_columns, schema_of
from embedkit.dataset.version import find_version
from embedkit.errors import ConfigError


def ray_dataset(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, **options: Any
) -> Any:
    """Reads the rows of a complete version with Ray Data's own Parquet reader.

    Only the parts that the manifest lists are read.

        >>> from embedkit import ray_dataset
        >>> rows = ray_dataset("embeddings", columns=["id", "n_tokens"])
        >>> rows.count()
        15

    Args:
        path: The dataset's root, for its newest version, or one version of it; a path or URL that
            Ray's workers reach as well.
        columns: Names of the columns to read; all of them unless given.
        options: What else ``ray.data.read_parquet`` takes, such as ``concurrency``.

    Returns:
        A ``ray.data.Dataset`` with a row per row of the version.

    Raises:
        ConfigError: There is no complete version, no such column, or only this process can read it.
        IntegrityError: The first part is gone or damaged.
    """
    try:
        # Ray takes seconds to load, and its part for data wants what the rest does without.
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"Ray Data cannot be imported ({error}); install ray[data], which is the extra data of "
            "embedkit-batch"
        ) from error
    version = find_version(path)
    if version.root.startswith("memory://"):
        raise ConfigError(f"{version.url}: in the memory of this process, where no worker reads it")
    parts = read_manifest(version).parts
    if not parts:
        return ray.data.from_items([])
    chosen = checked_columns(schema_of(version, parts), columns)
    places = [version.store.place(version.key(part.path)) for part in parts]
    return ray.data.read_parquet(
        [where for _, where in places],
        filesystem=places[0][0],
        columns=chosen,
        # A folder named like year=2026 is no column of the dataset's.
        partitioning=None,
        **options,
    )
