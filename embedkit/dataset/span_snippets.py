"""How rows with lists of vectors are read: the card's snippets, to vectors and what they are of."""

import pyarrow as pa

from embedkit.records import TOKENS_FIELD

_CUT = 'text[span["char_start"] - begin : span["char_end"] - begin]'
_IN_ROW = (
    'row["text"][span["char_start"] - row["char_start"] : span["char_end"] - row["char_start"]]'
)

_UNNESTED = ("", ", unnest(tokens) AS word")
_BESIDE_TEXT = (", text, char_start", "")
_WITH_TOKENS = (
    'words = table["tokens"].combine_chunks().flatten().to_pylist()\n',
    'words = frame["tokens"].to_list()\n',
    'words = frame["tokens"].tolist()\n',
    'words = [word for row in dataset for word in row["tokens"]]\n',
    "word, ",
)
_WITH_TEXT = (
    f"""rows = table.take(pyarrow.compute.list_parent_indices(lists))
found = zip(rows["text"].to_pylist(), rows["char_start"].to_pylist(), spans)
words = [{_CUT} for text, begin, span in found]
""",
    """span, begin = polars.col("spans").struct, polars.col("char_start")
start, end = span.field("char_start") - begin, span.field("char_end") - begin
words = frame.select(polars.col("text").str.slice(start, end - start))["text"].to_list()
""",
    f"""found = zip(frame["text"], frame["char_start"], spans)
words = [{_CUT} for text, begin, span in found]
""",
    f"""words = [
    {_IN_ROW}
    for row in dataset for span in row["spans"]
]
""",
    "substring(text, span.char_start - char_start + 1, span.char_end - span.char_start) AS word,\n"
    "  ",
)


def span_snippets(schema: pa.Schema, dimension: int) -> str:
    """Returns code that gives the vectors of all words or tokens, and what they are of.

    Args:
        schema: Schema of the parts. Words are those of the column ``tokens``, or cut out of the
            text; where a version has neither, the code ends with their characters.
        dimension: Components of a vector.
    """
    if TOKENS_FIELD.name in schema.names:
        arrow, polars, pandas, examples, sql = _WITH_TOKENS
        beside, unnested = _UNNESTED
        more = f', "{TOKENS_FIELD.name}"'
    elif "text" in schema.names:
        arrow, polars, pandas, examples, sql = _WITH_TEXT
        beside, unnested = _BESIDE_TEXT
        more = ""
    else:
        arrow = polars = pandas = examples = sql = more = beside = unnested = ""
    return f"""Each entry of `embeddings` is of the characters that the entry of `spans` at the same
place says, counted in the record's text; a row's own text begins at `char_start` of it.

```python
import pyarrow.compute
import pyarrow.dataset
table = pyarrow.dataset.dataset("data", format="parquet").to_table()
vectors = table["embeddings"].combine_chunks().flatten().flatten().to_numpy()
vectors = vectors.reshape(-1, {dimension})
lists = table["spans"].combine_chunks()
spans = lists.flatten().to_pylist()
{arrow}```

```python
import polars
frame = polars.read_parquet("data/*.parquet")
frame = frame.explode("embeddings", "spans"{more}).drop_nulls("spans")
vectors = frame["embeddings"].to_numpy()
spans = frame["spans"].to_list()
{polars}```

```python
import numpy, pandas
frame = pandas.read_parquet("data")
frame = frame.explode(["embeddings", "spans"{more}]).dropna(subset=["spans"])
vectors = numpy.stack(frame["embeddings"])
spans = frame["spans"].tolist()
{pandas}```

```python
import datasets
dataset = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
vectors = [vector for row in dataset for vector in row["embeddings"]]
spans = [span for row in dataset for span in row["spans"]]
{examples}```

```sql
-- DuckDB: a row for each vector
SELECT id, {sql}span.char_start, span.char_end, vector::FLOAT[{dimension}] AS vector
FROM (
  SELECT id{beside}, unnest(spans) AS span, unnest(embeddings) AS vector{unnested}
  FROM 'data/*.parquet'
);
```
"""
