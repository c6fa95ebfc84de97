"""The dataset card: what a version is and how to read it, as a README for people and hubs."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from embedkit.dataset.code_snippets import facts_of_codes, facts_of_int8, snippets_of_codes
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.parquet import readable
from embedkit.dataset.rejects import DAMAGED_FILE
from embedkit.dataset.schema import metadata_columns
from embedkit.dataset.span_snippets import span_snippets
from embedkit.dataset.version import Version
from embedkit.vectors import value_column

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)

_MARKUP = re.compile(r"[^\w .,/-]|(?<![^\W_])_|_(?![^\W_])")
"""All but letters, digits, harmless signs, and underscores inside a word."""

_MEANINGS = {
    "id": "unique in the version",
    "embedding": "the vector",
    "embeddings": "the vectors of its words or tokens",
    "score": "the score of query and text",
    "scores": "the scores of query and text, one for each label",
    "spans": "of which characters of the record's text each vector is",
    "tokens": "the word or token that each vector is of",
    "doc_id": "the input record",
    "chunk_index": "place of the chunk in the record, from 0",
    "char_start": "where the text begins in the record's text, in characters",
    "char_end": "where it ends",
    "n_tokens": "tokens of the text before truncation",
    "truncated": "whether the model saw less than the whole text",
    "n_unknown": "tokens that stand for text which the tokenizer does not know",
    "text_hash": "128-bit BLAKE2b of the text; equal texts have equal vectors",
    "source": "input file, relative to the corpus",
    "row_index": "place of the record in its file",
    "line_in_range": "line, row or element of the record, from 1 in its range of the file",
    "text": "the text",
}


_CHUNKS = {
    "tokens": "windows of tokens",
    "sentences": "sentences, as many as fit",
    "paragraphs": "paragraphs, as many as fit, or sentences of one that does not",
    "stable-sentences": "sentences, up to borders that an edit elsewhere does not move",
    "stable-paragraphs": "paragraphs, or sentences of one that does not fit, up to borders that an "
    "edit elsewhere does not move",
}

_EXPLODING = (
    "`embedkit explode` writes a row with one `embedding` for each of them, for indexes and "
    "searches.\n"
)


def dataset_card(version: Version, manifest: Manifest) -> str:
    """Returns the card of a version, with the front matter that Hugging Face datasets reads.

    Args:
        version: The version; the footer of its first part is read for the columns.
        manifest: What ``finalize`` returned.

    Raises:
        IntegrityError: The first part is not readable.
        StoreError: The store failed.
    """
    trial = manifest.description.get("trial")
    of = "Scores of pairs of texts" if _is_scored(manifest) else "Text embeddings"
    what = (
        f"{of}, complete: every input record"
        if trial is None
        else f"{of}, a trial: each of the first {trial:,} input records"
    )
    sections = [
        _front_matter(manifest),
        f"# {_literal(manifest.version)}\n\n{what} is in `data/` or, with its reason, in "
        f"`rejects/`{_missing(manifest)}.\n",
        _table(("", "", ""), _facts(manifest)),
    ]
    if manifest.parts:
        schema = _schema(version, manifest)
        sections += [
            "## Columns\n",
            _table(("column", "type", "meaning"), _columns(schema)),
            "## Reading it\n\nPaths are relative to this folder.\n",
        ]
        if value_column(schema) == "embeddings":
            sections += [span_snippets(schema, manifest.description["dimension"]), _EXPLODING]
        elif _is_scored(manifest):
            sections.append(_SCORE_SNIPPETS)
        else:
            sections += [
                snippets_of_codes(manifest.description)
                or _snippets(manifest.description["dimension"]),
                "## Searching it\n",
                _query_snippet(manifest.description),
            ]
    sections.append(
        "`_meta/manifest.json` lists every part with its size, rows and SHA-256; "
        "`embedkit validate` reads everything back and compares.\n"
    )
    return "\n".join(sections)


def _is_scored(manifest: Manifest) -> bool:
    return manifest.description.get("column") in ("score", "scores")


_SCORE_SNIPPETS = """```python
import polars
frame = polars.read_parquet("data/*.parquet")
```

```python
import datasets
dataset = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
```
"""


def _missing(manifest: Manifest) -> str:
    damaged = manifest.reject_reasons.get(DAMAGED_FILE, 0)
    return (
        ", but for the rest of every damaged input file, which is missing unless its reject says "
        "that only garbage follows"
        if damaged
        else ""
    )


def _front_matter(manifest: Manifest) -> str:
    scored = _is_scored(manifest)
    size = next((name for most, name in _SIZES if manifest.rows < most), "n>1B")
    matter: dict[str, Any] = {
        "pretty_name": f"{'Scores' if scored else 'Embeddings'} {manifest.version}",
        "tags": ["scores" if scored else "embeddings", "embedkit"],
        "task_categories": ["text-ranking" if scored else "feature-extraction"],
        "size_categories": [size],
    }
    if manifest.parts:
        files = [{"split": "train", "path": "data/*.parquet"}]
        matter["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False)}---\n"


def _facts(manifest: Manifest) -> Iterable[tuple[str, ...]]:
    described = manifest.description
    names: tuple[str, ...] = (
        "model", "revision", "weights_hash", "fingerprint", "dimension", "metric", "normalized",
        "granularity", "pooling", "prompt", "max_tokens", "ignored_code",
        "onnx_file", "onnx_precision", "tokenizer", "tokenizer_mismatch", "base_model", "route",
    )  # fmt: skip
    if _is_scored(manifest):
        names = (
            "model", "revision", "weights_hash", "fingerprint", "labels", "activation",
            "query_column", "max_tokens", "ignored_code",
        )  # fmt: skip
    for name in names:
        if described.get(name) not in (None, ""):
            yield name.replace("_", " "), _literal(described[name]), ""
    yield from facts_of_codes(described)
    yield from facts_of_int8(described)
    chunk = described.get("ingredients", {}).get("chunk")
    if chunk in _CHUNKS:
        yield "chunk", _literal(chunk), _CHUNKS[chunk]
    share = manifest.truncated / manifest.rows if manifest.rows else 0.0
    yield "documents", f"{manifest.documents:,}", "input records"
    yield "rows", f"{manifest.rows:,}", f"{share:.2%} truncated"
    yield (
        "rejects",
        f"{manifest.rejects:,}",
        f"input records without a {'score' if _is_scored(manifest) else 'vector'}",
    )
    if manifest.reused is not None:
        for version, rows in manifest.reused.versions.items():
            of = "scores" if _is_scored(manifest) else "vectors"
            yield "rows reused", f"{rows:,}", f"with the very {of} of version {_literal(version)}"
    damages = manifest.reject_reasons.get(DAMAGED_FILE, 0)
    if damages:
        yield (
            "damages",
            f"{damages:,}",
            "each stands for the rest of a file, a loss of unknown size unless only garbage "
            "follows",
        )
    yield "tokens", f"{manifest.tokens:,}", f"{manifest.n_tokens:,} before truncation"
    yield "parts", f"{len(manifest.parts):,}", f"{manifest.size:,} bytes"


def _columns(schema: pa.Schema) -> Iterable[tuple[str, ...]]:
    metadata = metadata_columns(schema)
    for column in schema:
        kind = str(column.type)
        if column.name == value_column(schema) and pa.types.is_nested(column.type):
            many = pa.types.is_list(column.type)
            one = column.type.value_type if many else column.type
            kind = f"{'any number of ' if many else ''}{one.value_type} x {one.list_size}"
        # A name of ours may be the user's own where a version has no such column of ours.
        meaning = "metadata of the input"
        if column.name not in metadata:
            meaning = _MEANINGS.get(column.name, meaning)
        yield _literal(column.name), _literal(kind), meaning


def _schema(version: Version, manifest: Manifest) -> pa.Schema:
    key = version.key(manifest.parts[0].path)
    with readable(version.url_of(key)), version.store.open(key) as file:
        return pq.read_schema(file)


def _snippets(dimension: int) -> str:
    return f"""```python
import pyarrow.dataset
table = pyarrow.dataset.dataset("data", format="parquet").to_table()
vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, {dimension})
```

```python
import polars
frame = polars.read_parquet("data/*.parquet")
vectors = frame["embedding"].to_numpy()
```

```python
import numpy, pandas
frame = pandas.read_parquet("data")
vectors = numpy.stack(frame["embedding"])
```

```python
import datasets
dataset = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
dataset = dataset.with_format("numpy")
```

```sql
-- DuckDB: the ten rows nearest to row 'some-id'
WITH query AS (
  SELECT embedding::FLOAT[{dimension}] AS vector FROM 'data/*.parquet' WHERE id = 'some-id'
)
SELECT id, array_cosine_similarity(embedding::FLOAT[{dimension}], vector) AS score
FROM 'data/*.parquet', query ORDER BY score DESC LIMIT 10;
```
"""


def _query_snippet(described: Mapping[str, Any]) -> str:
    """Returns how a query is encoded: as sentence-transformers does it, or embedkit itself."""
    prompt = described.get("query_prompt") or ""
    if prompt:
        said = "The model's prompt for queries goes before the query."
    elif described.get("prompt"):
        said = (
            "The documents were encoded with a prompt, and the model names none for queries; if it "
            "wants one, such as 'query: ', put it into `prompt`."
        )
    else:
        said = "The query has no prompt, as the documents had none."
    code = [
        "from embedkit import encode_query",
        f'query = encode_query(".", "what to look for", prompt={_quoted(prompt)})',
    ]
    # Of a model that names no pooling, sentence-transformers assumes this one; it takes the
    # tokenizer and the safetensors of the model's directory, documents' way through it, and no
    # module of an adapter's model.
    others = ("tokenizer", "onnx_file", "route", "base_model")
    is_its_own = not any(described.get(name) for name in others)
    if described.get("pooling") == "mean" and described.get("model") and is_its_own:
        name, pinned = str(described["model"]), ""
        if described.get("revision"):
            name = name.partition("@")[0]
            pinned = f", revision={_quoted(described['revision'])}"
        code = [
            "from sentence_transformers import SentenceTransformer",
            f"model = SentenceTransformer({_quoted(name)}{pinned}, "
            f"truncate_dim={described['dimension']})",
            f"model.max_seq_length = {described.get('max_tokens')}",
            f'query = model.encode("what to look for", prompt={_quoted(prompt)}, '
            f"normalize_embeddings={bool(described['normalized'])})",
        ]
    if described["normalized"] or described.get("metric") != "cosine":
        code.append("scores = vectors @ query")
    else:
        code += [
            "import numpy",
            "lengths = numpy.linalg.norm(vectors, axis=1) * numpy.linalg.norm(query)",
            "scores = vectors @ query / lengths",
        ]
    lines = "\n".join(code)
    return f"{said}\n\n```python\n{lines}\n```\n"


def _quoted(text: str) -> str:
    """Returns a string literal of Python that ends no block of code in Markdown."""
    return json.dumps(text).replace("`", "\\u0060")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _literal(value: object) -> str:
    """Returns a value as text that Markdown and HTML show as it is and never interpret."""
    text = " ".join(str(value).split())
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)
