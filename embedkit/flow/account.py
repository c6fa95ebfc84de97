"""What a run's encoders did, as its account says it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from embedkit.encoders.meter import EncoderLoad, busy_share, encode_seconds
from embedkit.reports.account import EncoderWork, RunAccount


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
