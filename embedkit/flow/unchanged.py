"""Which splits of a plan have the very inputs that a split of an earlier plan had."""

from embedkit.corpus.splits import Plan
from embedkit.dataset.plan_file import VersionPlan
from embedkit.hashes.digests import digest


def unchanged_splits(plan: Plan, ours: VersionPlan, theirs: VersionPlan) -> dict[str, str]:
    """Finds the splits whose inputs, and the settings that shape their rows, are what they were.

    Which records repeat an id may have changed all the same, as that depends on other splits.

    Args:
        plan: The plan of a version.
        ours: What the version was begun with.
        theirs: What an earlier one of the same recipe was begun with.

    Returns:
        By split, the earlier plan's split; none where rows come from no files.
    """
    if not plan.inputs_digest or ours.job_digest != theirs.job_digest:
        return {}
    try:
        before = Plan.of_dict(theirs.corpus)
    except ValueError:
        # Its own job says what is wrong with it.
        return {}
    if before.metadata != plan.metadata:
        return {}
    known = {digest(*split.facts): split.split_id for split in before.splits}
    found = {split.split_id: known.get(digest(*split.facts)) for split in plan.splits}
    return {split: earlier for split, earlier in found.items() if earlier is not None}
