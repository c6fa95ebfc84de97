"""What tests of copied parts share: inputs that nobody may read, and what a copy consists of."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from running import Dataset

from embedkit.dataset.committed import committed
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version


@contextmanager
def spoiled(corpus: Path, but: str = "") -> Iterator[None]:
    """Files that look as they did, while nothing in them can be read; except one."""
    kept = {}
    for path in corpus.iterdir():
        if path.name != but:
            kept[path] = (path.stat(), path.read_bytes())
    for path, (status, data) in kept.items():
        _replace(path, b"{" * len(data), status)
    yield
    for path, (status, data) in kept.items():
        _replace(path, data, status)


def _replace(path: Path, data: bytes, status: os.stat_result) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def check_copied(version: Version, full: Dataset, changed: int | None = None) -> int:
    """Checks that the rows are those of a run that takes nothing over, and most parts copies.

    Args:
        version: The version.
        full: What a run made that found no earlier version.
        changed: Number of the one shard that is read; None where none is.

    Returns:
        How many parts are links to those of the earlier version.
    """
    assert validate(version).problems == ()
    dataset = Dataset(Path(version.url))
    dataset.check_accounts(full.manifest["documents"])
    ours, theirs = dataset.table, full.table
    assert ours.drop_columns("embedding").equals(theirs.drop_columns("embedding"))
    # A row that is encoded alone may differ in the last digits.
    vectors = (np.stack(one["embedding"].to_numpy()) for one in (ours, theirs))
    np.testing.assert_allclose(*vectors, atol=1e-6)
    copies = 0
    for record in committed(version).values():
        assert record.part is not None
        assert record.reused is not None
        is_copy = all(not source.endswith(f"shard-{changed}.jsonl") for source in record.sources)
        assert (record.origin is not None) == is_copy
        # No file comes or goes, so a block has the number that it had.
        before = version.sibling(record.reused.version).url
        assert os.path.samefile(dataset.folder / record.part, f"{before}/{record.part}") == is_copy
        copies += is_copy
    assert 0 < copies
    return copies
