"""What a run is: every setting once, with its type, default and sentence.

The command line, the YAML job file, the Beam transforms and the functions all read these classes,
so a default stands in one place. ``JobConfig`` is flat on purpose: a flag, a YAML key and a field
have one name.
"""

from embedkit.config.corpus import CorpusConfig, RecordConfig
from embedkit.config.engine import EncoderRange, EngineConfig
from embedkit.config.evaluation import EvaluationConfig
from embedkit.config.job import (
    JobConfig,
    evaluation_fault,
    granularity_fault,
    pairs_fault,
    storage_fault,
)
from embedkit.config.model import ModelConfig, TokenizerConfig
from embedkit.config.output import Gate, OutputConfig
from embedkit.config.settings import MIB, RESERVED_COLUMNS, Settings, reserved_columns

__all__ = [
    "MIB",
    "RESERVED_COLUMNS",
    "CorpusConfig",
    "EncoderRange",
    "EngineConfig",
    "EvaluationConfig",
    "Gate",
    "JobConfig",
    "ModelConfig",
    "OutputConfig",
    "RecordConfig",
    "Settings",
    "TokenizerConfig",
    "evaluation_fault",
    "granularity_fault",
    "pairs_fault",
    "reserved_columns",
    "storage_fault",
]
