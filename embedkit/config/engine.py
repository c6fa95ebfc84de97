"""What runs the work, and how it is spread."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, WithJsonSchema

from embedkit.config.settings import Settings


@dataclass(frozen=True, slots=True)
class EncoderRange:
    """How many encoders a run needs, and how many it takes where there is room.

    Attributes:
        least: A run starts with so many.
        most: It grows to so many as nodes join.
    """

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.most) if self.least == self.most else f"{self.least}..{self.most}"


def _encoder_range(value: object) -> object:
    """Reads ``N`` or ``MIN..MAX``."""
    if value is None or isinstance(value, EncoderRange):
        return value
    least, dots, most = str(value).partition("..")
    try:
        found = EncoderRange(int(least), int(most if dots else least))
    except ValueError as error:
        raise ValueError("expected a number, or MIN..MAX such as 1..8") from error
    if not 1 <= found.least <= found.most:
        raise ValueError("expected at least 1, and MIN not above MAX")
    return found


def _number_or_auto(value: object) -> object:
    return None if value == "auto" else value


_COUNT_SCHEMA = {"type": "integer", "minimum": 1}


class EngineConfig(Settings):
    """What runs the work, and how it is spread."""

    engine: Literal["local", "plain", "ray"] = Field(
        "local",
        description="local runs Beam and Ray on this machine; ray spreads both over a Ray cluster; "
        "plain runs one process, no engine.",
    )
    ray_address: str = Field(
        "auto", description="The Ray cluster of engine ray, as HOST:PORT; auto finds this node's."
    )
    encoders: Annotated[
        EncoderRange | None,
        BeforeValidator(_encoder_range),
        WithJsonSchema(
            {
                "anyOf": [
                    _COUNT_SCHEMA,
                    {"type": "string", "pattern": r"^[1-9][0-9]*(\.\.[1-9][0-9]*)?$"},
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        None,
        description="Encoder processes, as N or MIN..MAX; one per GPU, or one per CPU node, unless "
        "given. On a cluster a run starts with MIN and grows to MAX.",
    )
    encoders_per_gpu: PositiveInt = Field(1, description="Encoders that share one GPU.")
    encoder_cpus: PositiveInt | None = Field(
        None,
        description="CPUs that an encoder on a cluster without GPUs takes; a whole node unless "
        "given.",
    )
    calls_in_flight: Annotated[int, Field(ge=1, le=4)] = Field(
        2, description="Calls that a client keeps queued at each encoder."
    )
    call_tokens: PositiveInt = Field(
        131_072, description="Tokens that one call to an encoder carries."
    )
    workers: Annotated[
        PositiveInt | None,
        BeforeValidator(_number_or_auto),
        WithJsonSchema({"anyOf": [_COUNT_SCHEMA, {"const": "auto"}, {"type": "null"}]}),
    ] = Field(
        None,
        description="Threads, or processes on a cluster, that read, tokenize and write; auto takes "
        "as many as keep the encoders busy.",
    )
    encoder_timeout: Annotated[float, Field(gt=0)] = Field(
        900.0, description="Seconds without an answer after which an encoder counts as lost."
    )
    encoder_wait: Annotated[float, Field(gt=0)] = Field(
        600.0,
        description="Seconds that a run on a cluster waits while no encoder can be placed there.",
    )
    canaries: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether an encoder must give the vectors that a CPU computes in float32 for a "
        "few fixed texts before it is used; auto asks those on GPUs.",
    )
    max_lost_workers: Annotated[int, Field(ge=0)] = Field(
        100, description="Lost workers that a run on a cluster replaces before it gives up."
    )
