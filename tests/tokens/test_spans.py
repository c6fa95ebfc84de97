"""Words and tokens of texts with their characters, against Python's slices and transformers."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import SENTENCES, make_tokenizer

from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock
from embedkit.tokens.span_rules import SpanRules
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.vectors import spans_of

KINDS = ("wordpiece", "mpnet", "unigram", "xlm", "bytes", "bare")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = {}

    def save(kind: str, side: str = "right") -> str:
        if (kind, side) not in made:
            directory = tmp_path_factory.mktemp("tokenizer")
            make_tokenizer(kind, side).save_pretrained(directory)
            made[kind, side] = str(directory)
        return made[kind, side]

    return save


def block_of(texts):
    columns = {name: [] for name in DOCUMENT_SCHEMA.names}
    for place, text in enumerate(texts):
        row = {
            "id": str(place), "doc_id": str(place), "chunk_index": 0, "char_start": 0,
            "char_end": len(text), "text_hash": "", "source": "a", "row_index": place, "text": text,
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    rows = pa.RecordBatch.from_pydict(columns, schema=DOCUMENT_SCHEMA)
    return DocumentBlock("0" * 8, 0, len(texts), True, (), rows)


def found_in(tokenizer: TextTokenizer, texts):
    """Returns per text its spans as (text, first token, place behind the last)."""
    _, _, _, spans = tokenizer.encode_with_spans(texts)
    return [
        [
            (text[start:end], first, last)
            for start, end, first, last in zip(
                *(
                    getattr(spans, name)[a:b].tolist()
                    for name in ("char_starts", "char_ends", "token_starts", "token_ends")
                ),
                strict=True,
            )
        ]
        for text, (a, b) in zip(texts, itertools.pairwise(spans.offsets), strict=True)
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_without_spans(kind, side, saved):
    for max_tokens, prompt in ((5, ""), (24, "passage: "), (1000, "")):
        plain = load_tokenizer(TokenizerSpec(saved(kind, side), max_tokens, prompt))
        for rules in (SpanRules("token"), SpanRules("word")):
            spec = TokenizerSpec(saved(kind, side), max_tokens, prompt, spans=rules)
            found = load_tokenizer(spec).encode_with_spans(SENTENCES)
            for ours, theirs in zip(found, plain.encode(SENTENCES), strict=False):
                np.testing.assert_array_equal(ours, theirs)


def test_a_block_has_the_spans_and_the_names_of_its_tokens(saved):
    rules = SpanRules("token", special_tokens=True, token_texts=True)
    tokenizer = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24, spans=rules))
    rows = tokenize_text(block_of(["the fox", "\N{ZERO WIDTH SPACE}", "a"]), tokenizer).rows
    rows.validate(full=True)
    assert rows.column("text").to_pylist() == ["the fox", "a"]
    ids = rows.column("input_ids").to_pylist()
    names = [[tokenizer.tokenizer.id_to_token(one) for one in row] for row in ids]
    assert rows.column("tokens").to_pylist() == names
    assert [row[0] for row in names] == ["[CLS]"] * 2
    spans = rows.column("spans").to_pylist()
    assert [span["char_start"] for span in spans[1]] == [0, 0, 1]
    assert [span["char_end"] for span in spans[1]] == [0, 1, 1]
    assert spans_of(rows).starts.tolist() == [*range(len(ids[0])), 0, 1, 2]
