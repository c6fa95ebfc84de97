"""The account of a run: what its encoders did, and what its version holds."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from embedkit.corpus.splits import Plan
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.rejects import by_frequency
from embedkit.dataset.version import Version
from embedkit.encoders.meter import EncoderLoad, busy_share, encode_seconds
from embedkit.flow.verdict import REPORT_HTML
from embedkit.reports.account import EncoderWork, RunAccount
from embedkit.reports.phrasing import dataset_name


def work_by_encoder(loads: Iterable[EncoderLoad]) -> tuple[EncoderWork, ...]:
    """Adds up the loads of every encoder's processes, in the order of the encoders' names.

    Args:
        loads: The last known load of every encoder process of a run.
    """
    found: dict[str, EncoderWork] = {}
    for load in loads:
        sums = found.get(load.encoder, EncoderWork(load.encoder, 0, 0, 0, 0.0))
        found[load.encoder] = EncoderWork(
            load.encoder,
            sums.processes + 1,
            sums.rows + load.rows,
            sums.tokens + load.tokens,
            sums.busy_seconds + load.busy_seconds,
        )
    return tuple(found[name] for name in sorted(found, key=lambda name: (len(name), name)))


def with_loads(
    account: RunAccount, loads: Sequence[EncoderLoad], device: str | None = None
) -> RunAccount:
    """Returns the account of a run with what its encoders did.

    Args:
        account: The account so far.
        loads: The last known load of every encoder process.
        device: Name of what they ran on.
    """
    return replace(
        account,
        encode_seconds=encode_seconds(loads),
        encoder_busy_share=busy_share(loads),
        by_encoder=work_by_encoder(loads),
        device=device,
    )


def with_version(
    account: RunAccount, version: Version, manifest: Manifest, plan: Plan
) -> RunAccount:
    """Returns the account of a run with what its version holds now.

    Args:
        account: The account so far.
        version: The version.
        manifest: Its manifest.
        plan: Its plan; the splits are not looked at.
    """
    return replace(
        account,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=time.time() - account.started,
        version=version.name,
        dataset=version.url,
        title=dataset_name(version.root),
        report=version.url_of(version.key(REPORT_HTML)),
        files=plan.files,
        bytes=plan.total_bytes,
        documents=manifest.documents,
        rows=manifest.rows,
        rejects=manifest.rejects,
        # A manifest that was read has them in the order of their names.
        reject_reasons=by_frequency(manifest.reject_reasons),
        nulled=manifest.nulled,
        tokens=manifest.tokens,
        # Documents that were rejected whole since took theirs with them.
        tokens_encoded=max(0, manifest.tokens_encoded - account.tokens_resumed),
        truncated=manifest.truncated,
        n_unknown=manifest.n_unknown if "unknown" in manifest.description else None,
        trial=manifest.description.get("trial"),
        reused=manifest.reused,
    )
