"""What a version is, for a person: complete, or as far as it has come."""

from typing import Any

from embedkit.dataset.committed import committed, ended_splits
from embedkit.dataset.finalize import Totals
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.plan_file import planned_splits
from embedkit.dataset.publication import is_published
from embedkit.dataset.version import Version


def describe(version: Version) -> dict[str, Any]:
    """Describes a version for a person; one that is still growing by what is committed so far.

    Raises:
        IntegrityError: A record or the manifest is damaged.
        StoreError: The store failed.
    """
    complete = version.is_complete()
    described: dict[str, Any] = {
        "version": version.name,
        "url": version.url,
        "complete": complete,
        "published": is_published(version),
    }
    if complete:
        manifest = read_manifest(version).to_dict()
        description: dict[str, Any] = manifest.pop("description")
        del manifest["format"]
        return described | manifest | {"parts": len(manifest["parts"])} | description
    totals = Totals.of(tuple(committed(version).values()))
    return described | {
        **totals.counts,
        "size": sum(part.size for part in totals.parts),
        "splits": planned_splits(version),
        "splits_ended": len(ended_splits(version)),
        "blocks": totals.blocks,
        "parts": len(totals.parts),
    }
