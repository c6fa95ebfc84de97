"""Which splits of a plan have the very inputs that a split of an earlier plan had."""

from collections.abc import Iterable

from embedkit.config import CorpusConfig, RecordConfig
from embedkit.corpus.splits import Plan, Split
from embedkit.dataset.plan_file import VersionPlan
from embedkit.dataset.version import Version
from embedkit.flow.check_ids import with_known_duplicates
from embedkit.hashes.digests import digest


def unchanged_splits(
    plan: Plan,
    ours: VersionPlan,
    earlier: Version,
    theirs: VersionPlan,
    records: RecordConfig | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Finds the splits whose inputs, and whatever else shapes their rows, are what they were.

    Which records repeat an id may have changed all the same, as that depends on other splits.

    Args:
        plan: The plan of a version.
        ours: What the version was begun with.
        earlier: A version of the same recipe.
        theirs: What that one was begun with.
        records: How records become rows; where they come from no files, no split is what it was.

    Returns:
        By split, the earlier split's id; and by earlier split of these the digest of its repeated
        ids, see ``duplicates_digest``, where it has some.

    Raises:
        StoreError: The store failed.
    """
    if not isinstance(records, CorpusConfig) or ours.job_digest != theirs.job_digest:
        return {}, {}
    try:
        before = Plan.of_dict(theirs.corpus)
    except ValueError:
        # Its own job says what is wrong with it.
        return {}, {}
    if before.metadata != plan.metadata:
        return {}, {}
    known = with_known_duplicates(before, records, earlier)
    if known is None:
        return {}, {}
    by_inputs = {_inputs(split): split for split in known.splits}
    found = {split.split_id: by_inputs.get(_inputs(split)) for split in plan.splits}
    same = {split_id: split for split_id, split in found.items() if split is not None}
    duplicates = {
        split.split_id: duplicates_digest(split.duplicates)
        for split in same.values()
        if split.duplicates
    }
    return {split_id: split.split_id for split_id, split in same.items()}, duplicates


def duplicates_digest(duplicates: Iterable[tuple[str, int]]) -> str:
    """Returns what tells the records of a split that repeat an id; empty where none does."""
    places = [part for source, row in duplicates for part in (source, str(row))]
    return digest(*places) if places else ""


def _inputs(split: Split) -> str:
    """Returns what tells the inputs of a split from those of any other."""
    facts = (
        str(fact)
        for piece in split.ranges
        for fact in (
            piece.source, piece.size, piece.etag, piece.format, piece.compression,
            piece.start, piece.end,
        )
    )  # fmt: skip
    return digest(str(split.documents), *facts)
