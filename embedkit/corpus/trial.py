"""A trial: the first documents of a plan, and no more."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.formats import read_records
from embedkit.corpus.splits import Split


def first_documents(
    splits: Sequence[Split], config: CorpusConfig, columns: Columns
) -> Iterator[Split]:
    """Yields the splits that hold a plan's first documents, the last of them cut to its share.

    What is yielded is read for it, but for Parquet files, which say how many records they hold.

    Args:
        splits: All splits, in plan order.
        config: How records are read, and ``limit``, how many of them.
        columns: Which columns are read.

    Raises:
        InputError: A file cannot be read.
    """
    left = config.limit or 0
    for split in splits:
        held = _count(split, left, config, columns)
        yield split if held < left else replace(split, documents=left)
        left -= held
        if left <= 0:
            return


def _count(split: Split, most: int, config: CorpusConfig, columns: Columns) -> int:
    """Counts the records of a split, as far as ``most`` of them."""
    count = 0
    for file in split.ranges:
        if file.rows is not None:
            count += file.rows
            continue
        with closing(read_records(file, config, columns)) as batches:
            for records in batches:
                count += len(records)
                if count >= most:
                    return count
    return count
