from embedkit.actors.beam_runner import RayBeamRunner as RayBeamRunner
from embedkit.actors.ray_data import ray_dataset as ray_dataset
from embedkit.config import CorpusConfig as CorpusConfig
from embedkit.config import JobConfig as JobConfig
from embedkit.config import ModelConfig as ModelConfig
from embedkit.config import OutputConfig as OutputConfig
from embedkit.config import RecordConfig as RecordConfig
from embedkit.engines.estimate import plan_job as plan_job
from embedkit.engines.run import run_job as run_job
from embedkit.errors import EmbedkitError as EmbedkitError
from embedkit.records import DocumentBlock as DocumentBlock
from embedkit.reports.account import RunAccount as RunAccount
from embedkit.search.exact import Hit as Hit
from embedkit.search.query import encode_query as encode_query
from embedkit.search.query import search_text as search_text
from embedkit.search.reader import VersionReader as VersionReader
from embedkit.search.reader import open_version as open_version
from embedkit.transforms.embed_corpus import EmbedCorpus as EmbedCorpus
from embedkit.transforms.read import ReadCorpus as ReadCorpus
from embedkit.transforms.read_version import ReadVersion as ReadVersion

__version__: str
