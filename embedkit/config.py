"""What a run is: every setting once, with its type, default and sentence.

The command line, the YAML job file, the Beam transforms and the functions all read these classes,
so a default stands in one place. ``JobConfig`` is flat on purpose: a flag, a YAML key and a field
have one name.
"""

import codecs
import math
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

MIB = 1 << 20
RESERVED_COLUMNS = frozenset(
    "id doc_id chunk_index char_start char_end text_hash source row_index "
    "text input_ids n_tokens truncated line_in_range embedding".split()
)
"""Names of the columns of parts, which a metadata column cannot have."""
_OF_OTHER_VALUES = frozenset({"embeddings", "spans", "tokens", "score", "scores"})
_PATHS = ("inputs", "base", "model", "tokenizer", "onnx_file", "output", "sts", "retrieval")
"""Names of files, which need not be text; whoever opens them says so."""
_STS_COLUMNS = 3


def reserved_columns(column: str = "embedding") -> frozenset[str]:
    """Returns the names that a metadata column cannot have.

    Args:
        column: The column of the version that holds what was computed, see ``value_column``: the
            names of others than ``embedding`` are the user's own where it has them not.
    """
    return RESERVED_COLUMNS if column == "embedding" else RESERVED_COLUMNS | _OF_OTHER_VALUES


def _kinds(annotation: Any) -> list[Any]:
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]


def _spelled(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_spelled(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class Settings(BaseModel):
    """Settings that cannot change, checked alike whatever they are of."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _places(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        paths = {name: _spelled(values[name]) for name in _PATHS if name in values}
        return values | paths

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        # To Python true is a 1.
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            kinds = [] if field is None else _kinds(field.annotation)
            if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
                raise ValueError(f"{name}: expected a number, not true or false")
        return values

    @model_validator(mode="after")
    def _texts(self) -> Self:
        for name, value in self:
            texts = value if isinstance(value, tuple) else (value,)
            try:
                _ = name in _PATHS or "".join(map(str, texts)).encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name}: holds half a character, which is no text") from error
        return self


class RecordConfig(Settings):
    """How records become rows, wherever they come from."""

    text_column: str = Field("text", description="Column that holds the text.")
    text_template: str | None = Field(
        None,
        description="Joins several columns into the text, such as '{title}. {body}'; {title?} is "
        "one that files need not have.",
    )
    query_column: str | None = Field(
        None,
        description="Column that holds the query of each text: rows are pairs then, and a "
        "cross-encoder gives them scores in the place of vectors.",
    )
    candidates_column: str | None = Field(
        None,
        description="Column that holds a list of texts for each query, in the place of one text: "
        "each of them gets a row.",
    )
    id_column: str | None = Field(
        None, description="Column that holds a unique id; without it ids come from the place."
    )
    metadata_columns: tuple[str, ...] = Field(
        (),
        description="Columns to carry along, as NAME or NAME:TYPE (string, int64, float64, bool).",
    )
    max_record_bytes: PositiveInt = Field(
        16 * MIB, description="A longer record is rejected instead of read into memory."
    )
    block_rows: PositiveInt = Field(
        8_192, description="Most rows of a block, the unit of encoding, retry and commit."
    )
    block_bytes: PositiveInt = Field(
        8 * MIB,
        description="Most bytes of text in a block; fewer where words or tokens get vectors, "
        "unless another value is given.",
    )
    chunk: Literal[
        "none", "tokens", "sentences", "paragraphs", "stable-sentences", "stable-paragraphs"
    ] = Field(
        "none",
        description="How documents are cut into chunks before they are embedded; the stable kinds "
        "cut at places that an edit elsewhere in the document does not move.",
    )
    chunk_tokens: PositiveInt | None = Field(
        None, description="Most tokens of a chunk; the model's maximum unless given."
    )
    chunk_overlap: Annotated[int, Field(ge=0)] = Field(
        0, description="Tokens that a chunk shares with the one before it."
    )
    late_chunking: bool = Field(
        False,
        description="Encode documents whole, in overlapping windows where they are longer than "
        "the model's maximum, and pool the chunks from that, so that each knows its context.",
    )

    @property
    def carried_columns(self) -> tuple[str, ...]:
        """Columns that a reader carries along: those of metadata, and the query's."""
        query = self.query_column
        if query is None:
            return self.metadata_columns
        others = (name for name in self.metadata_columns if name not in (query, f"{query}:string"))
        return (*others, f"{query}:string")

    @property
    def has_many_rows(self) -> bool:
        """Whether a record may become several rows."""
        return self.chunk != "none" or self.candidates_column is not None

    @property
    def keeps_query(self) -> bool:
        """Whether the query is a column of metadata as well."""
        return len(self.carried_columns) == len(self.metadata_columns)

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        query = self.query_column
        if query is None:
            return self
        if query in reserved_columns("score") or not query:
            raise ValueError(
                f"query_column: {query!r} is a column of embedkit's own; rename it in the input"
            )
        if query == self.text_column and self.text_template is None:
            raise ValueError(f"query_column: {query!r} is the text's column already")
        if any(name.rpartition(":")[0] == query for name in self.carried_columns[:-1]):
            raise ValueError(f"metadata_columns: a query is text; give {query} without a type")
        return self

    @model_validator(mode="after")
    def _columns(self) -> Self:
        if not self.metadata_columns:
            return self
        # A name may hold a colon itself, as in 'dc:title:string'.
        names = [name.rpartition(":")[0] or name for name in self.metadata_columns]
        taken = sorted(RESERVED_COLUMNS.intersection(names))
        if taken:
            raise ValueError(
                f"metadata_columns: {', '.join(taken)} is a column of embedkit's own; "
                "rename it in the input or leave it out"
            )
        if len(set(names)) != len(names):
            raise ValueError("metadata_columns: a name is given twice")
        return self


_CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "\\\\": "\\"}


def _character(value: object) -> object:
    """Reads one character, ``tab`` or ``none``; none at all is the empty string."""
    if value is None or value == "none":
        return value and ""
    character = _CHARACTERS.get(str(value), str(value))
    if len(character) > 1 or character in ("\n", "\r", "\0"):
        raise ValueError("expected one character, tab, or none")
    return character


def _encoding(name: str) -> str:
    if name != "auto":
        try:
            "".encode(name)
            codecs.getincrementaldecoder(name)("backslashreplace").decode(b"-", final=True)
        except (LookupError, TypeError, UnicodeError, ValueError) as error:
            raise ValueError("no encoding of text; expected one such as utf-16") from error
    return name


def _comma_separated(value: object) -> object:
    """Reads ``a,b,c``, or a list of names."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return value
    return tuple(name for one in given for name in str(one).split(","))


class CorpusConfig(RecordConfig):
    """Which records to read, and how they become rows."""

    inputs: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Input files, directories or globs; local paths or any fsspec URL."
    )
    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "parquet"] = Field(
        "auto", description="Input format; auto tells it from each file's suffix."
    )
    compression: Literal["auto", "none", "gzip", "zstd", "bz2", "xz"] = Field(
        "auto", description="Compression of the inputs; auto tells it from each file's suffix."
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        "auto",
        description="Encoding of text inputs, such as utf-16 or latin-1; auto takes UTF-8, or what "
        "a file's byte order mark says.",
    )
    text_unit: Literal["line", "paragraph", "file"] = Field(
        "line", description="What one document of a plain text file is."
    )
    delimiter: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character between the fields of CSV and TSV files; a comma, or a tab in TSV "
        "files, unless given.",
    )
    quote: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character that a field is quoted with, or none; a double quote in CSV files "
        "and none in TSV files unless given.",
    )
    escape: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character that takes the next one literally in CSV and TSV files, such as a "
        "backslash; none unless given.",
    )
    columns: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        (),
        description="Names of the columns of CSV and TSV files that have no header line, as a,b,c.",
    )
    max_record_lines: PositiveInt = Field(
        1000,
        description="A CSV record over more lines is rejected as one whose quote is never closed.",
    )
    base: str | None = Field(
        None,
        description="Directory that sources and derived ids are relative to; the inputs' common "
        "parent unless given.",
    )
    follow_symlinks: bool = Field(
        False,
        description="Follow symbolic links that lead out of the directories that are named.",
    )
    max_decompressed_bytes: PositiveInt = Field(
        256 * 1024 * MIB, description="A compressed file that unpacks to more stops the run."
    )
    split_bytes: PositiveInt = Field(
        32 * MIB, description="Size of the ranges that workers take, in bytes as stored."
    )
    limit: PositiveInt | None = Field(
        None,
        description="Embed the first N documents only, as a trial: a version of its own that "
        "never becomes the latest.",
    )

    @model_validator(mode="after")
    def _dialect(self) -> Self:
        if self.delimiter == "":
            raise ValueError("delimiter: fields need a character between them")
        used = [one for one in (self.delimiter, self.quote, self.escape) if one]
        if len(set(used)) != len(used):
            raise ValueError("delimiter, quote and escape: give three different characters")
        if len(set(self.columns)) != len(self.columns) or "" in self.columns:
            raise ValueError("columns: give every column a name of its own")
        return self


class TokenizerConfig(Settings):
    """Which tokenizer a model's texts go through, if not its own."""

    tokenizer: str | None = Field(
        None,
        description="Directory or hub id of another tokenizer for the model; its own unless given.",
    )
    allow_tokenizer_mismatch: bool = Field(
        False,
        description="Whether a tokenizer is taken that does not belong to the model, so that its "
        "vectors may mean little.",
    )


class ModelConfig(TokenizerConfig):
    """Which vectors a text gets."""

    model: str = Field(description="Model directory, or a hub id, as NAME or NAME@REVISION.")
    prompt: str | None = Field(
        None, description="Text put before every document, such as 'passage: '."
    )
    prompt_name: str | None = Field(
        None, description="Name of a prompt in the model's own configuration."
    )
    route: str | None = Field(
        None,
        description="Route of the documents in a model that takes queries another way (a Router of "
        "sentence-transformers); the one named document unless given.",
    )
    max_tokens: PositiveInt | None = Field(
        None, description="Tokens of a text that the model sees; the model's maximum unless given."
    )
    pooling: str | None = Field(
        None,
        description="Pooling of a model that names none: cls, mean, max, mean_sqrt_len_tokens, "
        "weightedmean, lasttoken, or several joined by '+'; of static vectors: mean, idf or sif, "
        "with -pc behind without their first component.",
    )
    normalize: bool | None = Field(
        None,
        description="Whether vectors get length 1; as the model says unless given, and those of "
        "words and tokens not.",
    )
    dimensions: PositiveInt | None = Field(
        None, description="Keep this many leading components (Matryoshka) and normalize again."
    )
    granularity: Literal["document", "chunk", "word", "token"] | None = Field(
        None,
        description="What gets a vector: each document, each chunk (with chunk), or, in lists, "
        "each word or token of them; document or chunk, as chunk says, unless given.",
    )
    word_pooling: Literal["first", "mean", "last", "max"] = Field(
        "mean", description="How the tokens of a word become its vector."
    )
    word_pattern: str | None = Field(
        None,
        description="Regular expression whose matches are the words, such as '[A-Za-z]+'; the "
        "tokenizer's own words unless given.",
    )
    words: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        (), description="Keep the vectors of these words alone, given as a,b,c."
    )
    special_tokens: bool = Field(
        False, description="Whether special tokens, such as [CLS], get vectors of their own."
    )
    layers: str = Field(
        "-1",
        description="Hidden layers that vectors are made of: one, such as -2 or 0 (the embedding "
        "layer), or several, such as -4..-1:sum or -4..-1:concat.",
    )
    backend: Literal["auto", "torch", "openvino", "onnx"] = Field(
        "auto",
        description="What runs the model; auto takes openvino on CPUs where installed. onnx runs "
        "the ONNX file in the model's directory, by onnxruntime on CPUs.",
    )
    onnx_file: str | None = Field(
        None,
        description="ONNX file of backend onnx, as a path in the model's directory; "
        "onnx/model.onnx unless given.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes a GPU when there is one."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "float8"] = Field(
        "auto",
        description="Arithmetic of the model; auto takes bfloat16 where the hardware has it. "
        "float8 is the linear layers', on newer GPUs.",
    )
    ignore_auto_map: bool = Field(
        False,
        description="Run the library's classes where the model's directory names its own, whose "
        "code never runs; vectors may be others than the authors'.",
    )
    batch_tokens: PositiveInt | None = Field(
        None, description="Most tokens of a padded batch; a good value for the device unless given."
    )
    encoder_threads: PositiveInt | None = Field(
        None, description="CPU threads of one encoder; its share of the machine unless given."
    )


_GATE = re.compile(r"\s*([^\s<>=!?]+)(\??)\s*(<=|>=|==|!=|<|>)\s*([^\s<>=!]+)\s*")
_LIKE_GATE = "expected a figure of report.json, one of < <= > >= == != and a number, such as"


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on a figure of the report under which a version is not published.

    Attributes:
        path: The figure: names and places in lists, joined by dots, as in ``rejects.share``.
        operator: How it is compared with the limit.
        limit: What it is compared with.
        optional: Whether a version may be published whose report does not have the figure.
    """

    path: str
    operator: str
    limit: float
    optional: bool = False

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Reads an expression such as ``truncated_share>0.2``.

        Raises:
            ValueError: It is none.
        """
        found = _GATE.fullmatch(expression)
        try:
            limit = float(found[4]) if found else math.nan
        except ValueError:
            limit = math.nan
        if found is None or not all(found[1].split(".")) or not math.isfinite(limit):
            raise ValueError(f"{_LIKE_GATE} 'truncated_share>0.2'; a shell needs the quotes")
        return cls(found[1], found[3], limit, bool(found[2]))

    def __str__(self) -> str:
        return f"{self.path}{'?' if self.optional else ''}{self.operator}{self.limit:.12g}"


def _gate(expression: str) -> str:
    Gate.parse(expression)
    return expression


_VersionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _near_duplicates(value: object) -> object:
    """Reads ``auto``, ``on``, ``off`` or a least cosine; to YAML two of them are true and false."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in ("auto", "on", "off"):
        return value
    try:
        cosine = float(str(value))
    except ValueError:
        cosine = 0.0
    if not 0 < cosine <= 1:
        raise ValueError("expected auto, on, off, or a cosine above 0 and at most 1, such as 0.95")
    return str(cosine)


class OutputConfig(Settings):
    """What is written, and where."""

    output: str = Field(description="Root directory or URL under which versions are written.")
    version: _VersionName | None = Field(
        None, description="Name of the version; derived from the job and its inputs unless given."
    )
    vector_dtype: Literal["float32", "float16", "int8", "uint8", "binary"] = Field(
        "float32",
        description="How vectors are stored; Spark cannot read float16. int8 and uint8 are codes "
        "by the range of each component in a sample, binary is a bit for each component's sign.",
    )
    store_text: bool = Field(False, description="Whether the text is stored beside its vector.")
    store_tokens: bool = Field(
        False, description="Whether words or tokens are stored beside their vectors."
    )
    excerpts: bool | None = Field(
        None,
        description="Whether rejects and the report show the beginnings of texts; as store-text "
        "unless given.",
    )
    report_text: bool = Field(
        True,
        description="Whether the report shows what excerpts allows: beginnings of texts, and terms "
        "made of them.",
    )
    reuse: _VersionName = Field(
        "latest",
        description="Earlier version whose vectors of unchanged texts are taken over: latest, the "
        "name of one, or off.",
    )
    reuse_scope: Literal["source", "global"] = Field(
        "source",
        description="Where an unchanged text is looked for: source is the same input file, global "
        "all of the version, for files that were renamed or cut anew.",
    )
    reuse_numerics: Literal["any", "same"] = Field(
        "any",
        description="Whether vectors are taken over that another device, backend or precision "
        "made.",
    )
    verify_inputs: bool = Field(
        False,
        description="Whether unchanged files are read all the same, and every text compared, "
        "instead of trusting their size and etag.",
    )
    near_duplicates: Annotated[
        str,
        BeforeValidator(_near_duplicates),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": "^(auto|on|off|0?\\.[0-9]*[1-9][0-9]*|1)$"},
                    {"type": "boolean"},
                    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                ]
            }
        ),
    ] = Field(
        "auto",
        description="Whether near duplicates are looked for among all rows, as on, off, or the "
        "least cosine of two of them; auto does where faiss is installed and most rows are new, "
        "or rows are few.",
    )
    max_reject_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01,
        description="Share of rejected records above which a finished version is not published: "
        "LATEST stays where it was, and the run exits with 3.",
    )
    allow_damaged_files: bool = Field(
        False,
        description="Whether a version is published although an input is damaged, so that the rest "
        "of that file, of whatever size, is missing.",
    )
    publish_anyway: bool = Field(
        False,
        description="Whether a version is published although more was rejected than is allowed.",
    )
    fail_on: tuple[Annotated[str, AfterValidator(_gate)], ...] = Field(
        (),
        description="Gate on a figure of report.json, such as 'truncated_share>0.2': where it "
        "holds, LATEST stays where it was, and the run exits with 5.",
    )

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that ``fail_on`` names, each once."""
        return tuple(dict.fromkeys(map(Gate.parse, self.fail_on)))


class EvaluationConfig(Settings):
    """What a version is held against."""

    sts: tuple[str, ...] = Field(
        (),
        description="Pairs of texts with scores that people gave them, a CSV, TSV or JSONL file: "
        "how far the cosines follow the scores.",
    )
    sts_columns: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        (),
        description="Columns of the two texts and of the score, as sentence1,sentence2,score, "
        "which is one of the usual names unless given.",
    )
    retrieval: tuple[str, ...] = Field(
        (),
        description="Folder of judged queries in BEIR's layout: queries.jsonl, qrels.tsv or "
        "qrels/*.tsv, and corpus.jsonl unless the version is that corpus.",
    )
    split: str | None = Field(
        None, description="Which file of qrels/; test, or the only one, unless given."
    )
    document_template: str = Field(
        "{title} {text}",
        description="Makes the text of a document of corpus.jsonl, where that is encoded.",
    )
    documents: Literal["auto", "version", "corpus"] = Field(
        "auto",
        description="Among which documents queries look: those of the version, or of corpus.jsonl, "
        "encoded anew; auto takes the version's where it has the same ids.",
    )

    known_items: str | None = Field(
        None,
        description="Queries made from the corpus itself, without judgments: a metadata column, "
        "such as title, whose value must find its document, or sentence, for one held out of a "
        "stored text.",
    )
    known_item_queries: PositiveInt = Field(
        200, description="How many such queries, of documents chosen by the hashes of their ids."
    )
    storage: bool = Field(
        False,
        description="Whether float16, int8, binary and fewer dimensions are compared: bytes per "
        "vector, and what the same queries find.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.sts_columns and len(self.sts_columns) != _STS_COLUMNS:
            raise ValueError("sts_columns: expected three names, as sentence1,sentence2,score")
        if "{text}" not in self.document_template:
            raise ValueError("document_template: expected {text} in it, and {title} perhaps")
        return self

    @property
    def asks(self) -> bool:
        """Whether anything is asked."""
        return bool(self.sts or self.retrieval or self.known_items or self.storage)

    @property
    def known_item_column(self) -> str | None:
        """The metadata column that queries are made of; None where none is."""
        if self.known_items in (None, "sentence"):
            return None
        return str(self.known_items).removesuffix(":text")


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


def granularity_fault(model: ModelConfig, records: RecordConfig) -> str | None:
    """Says why records that are cut into such rows cannot get vectors of such things, if so."""
    of = model.granularity
    if of == "document" and records.chunk != "none":
        return (
            f"granularity: document, but with chunk {records.chunk} each chunk gets a vector; "
            "leave one of the two out"
        )
    if of == "chunk" and records.chunk == "none":
        return "granularity: chunk, but documents stay whole; say how to cut them, as chunk tokens"
    if of in ("word", "token"):
        return _taken(records, "embeddings", "words or tokens get vectors")
    return None


def _taken(records: RecordConfig, column: str, where: str) -> str | None:
    names = {name.rpartition(":")[0] or name for name in records.metadata_columns}
    taken = sorted(reserved_columns(column) & names)
    if not taken:
        return None
    return (
        f"metadata_columns: {', '.join(taken)} is a column of embedkit's own where {where}; "
        "rename it in the input or leave it out"
    )


def pairs_fault(records: RecordConfig, output: OutputConfig) -> str | None:
    """Says why records that are pairs cannot be scored with such settings, if so."""
    if records.query_column is None:
        fault = "candidates_column: candidates are of a query; name its column as query_column"
        return None if records.candidates_column is None else fault
    if records.candidates_column is not None and records.text_template is not None:
        return "candidates_column: text_template makes the text already; leave one of them out"
    if records.chunk != "none":
        return "chunk: pairs of a query and a text are scored whole; leave it out"
    if output.vector_dtype != "float32":
        return "vector_dtype: scores are float32; leave it out"
    return _taken(records, "score", "pairs get scores")


def storage_fault(vector_dtype: str, of: str | None, dimension: int | None = None) -> str | None:
    """Says why vectors of such things cannot be stored so, if so.

    Args:
        vector_dtype: See ``OutputConfig``.
        of: What each of them is of, see ``ModelConfig.granularity``.
        dimension: Components of each, where they are known.
    """
    if vector_dtype in ("float32", "float16"):
        return None
    if of in ("word", "token"):
        return (
            f"vector_dtype: {vector_dtype} is for one vector per document or chunk, and {of}s get "
            "vectors; take float32 or float16"
        )
    if vector_dtype == "binary" and dimension is not None and dimension % 8:
        return (
            "vector_dtype: binary puts eight components into a byte, and vectors have "
            f"{dimension}; choose another number of dimensions, or int8"
        )
    return None


class JobConfig(CorpusConfig, ModelConfig, OutputConfig, EngineConfig):
    """A whole job: what to read, how to embed it, where to write it, what runs it."""

    @model_validator(mode="after")
    def _granularity(self) -> Self:
        fault = granularity_fault(self, self) or storage_fault(self.vector_dtype, self.granularity)
        if fault:
            raise ValueError(fault)
        return self


def evaluation_fault(job: JobConfig, evaluation: EvaluationConfig) -> str | None:
    """Says why the version of a job cannot be held against what is asked, if its settings tell."""
    if not evaluation.asks:
        return "evaluation: asks nothing; give sts, retrieval, known_items or storage"
    if job.granularity in ("word", "token") or job.query_column is not None:
        what = "pairs get scores" if job.query_column is not None else "words or tokens get vectors"
        return f"evaluation: needs one vector per document or chunk, and {what}; leave it out"
    if evaluation.storage and job.vector_dtype not in ("float32", "float16"):
        return (
            "evaluation: storage compares floats with fewer bytes, and vector_dtype is "
            f"{job.vector_dtype}; leave one of the two out"
        )
    if evaluation.known_items == "sentence" and not job.store_text:
        return "evaluation: known_items of sentence needs stored texts; give store_text: true"
    column = evaluation.known_item_column
    names = {name.rpartition(":")[0] or name for name in job.metadata_columns}
    if column is not None and column not in names:
        return f"evaluation: known_items of {column} needs that column; add it to metadata_columns"
    return None
