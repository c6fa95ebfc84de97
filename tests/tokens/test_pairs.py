"""Pairs of texts as rows of tokens, held against the tokenizers library's own pairs."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tiny_cross import PAIRS, save_cross_encoder
from tiny_models import SENTENCES
from tokenizers import processors

from embedkit.errors import ConfigError
from embedkit.records import DOCUMENT_SCHEMA, SECOND_FIELD, DocumentBlock
from embedkit.tokens.pair_rules import PairRules
from embedkit.tokens.pairs import PairTokenizer, load_row_tokenizer, longest_first, tokenize_rows
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, read_tokenizer

TYPED = PairRules(typed=True)
MANY = [*PAIRS, *itertools.product(SENTENCES[:6], SENTENCES[4:10])]


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    made = {}

    def directory(architecture="bert"):
        if architecture not in made:
            root = tmp_path_factory.mktemp(architecture)
            made[architecture] = save_cross_encoder(root, architecture)
        return made[architecture]

    return directory


def pairs_of(directory, most=24, rules=TYPED, **settings):
    return load_row_tokenizer(TokenizerSpec(directory, most, pairs=rules, **settings))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("most", [6, 7, 24])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
@pytest.mark.few(6)
def test_tokens_are_those_of_the_library(directories, architecture, most, side):
    directory = directories(architecture)
    loaded = read_tokenizer(directory)
    loaded.truncation_side = side
    library = loaded(
        [query for query, _ in MANY],
        [text for _, text in MANY],
        truncation="longest_first",
        max_length=most,
        return_token_type_ids=True,
    )
    whole = loaded([query for query, _ in MANY], [text for _, text in MANY])
    tokenizer = pairs_of(directory, most)
    texts = tokenizer.texts
    texts._frame = replace(texts._frame, truncate_left=side == "left")
    found = tokenizer.encode(*zip(*MANY, strict=True))
    assert found.n_tokens.tolist() == list(map(len, whole["input_ids"]))
    assert tokenizer.count(*zip(*MANY, strict=True)) == found.n_tokens.tolist()
    for row, (ids, types) in enumerate(
        zip(library["input_ids"], library["token_type_ids"], strict=True)
    ):
        start, end = found.offsets[row : row + 2]
        assert found.input_ids[start:end].tolist() == ids
        if architecture == "bert":
            places = np.arange(len(ids))
            assert (places >= found.seconds[row]).astype(int).tolist() == types
        else:
            assert not any(types)


def test_longest_first_for_all_small_lengths():
    """The library's rule in its own words: a token at a time, of the longer text, the second of
    equal ones last; but where neither fits, the halves."""
    firsts, others = map(np.array, zip(*itertools.product(range(9), range(9)), strict=True))
    for room in range(2, 12):
        kept = longest_first(firsts, others, room)
        for first, other, one, two in zip(firsts, others, *kept, strict=True):
            assert one <= first and two <= other
            assert one + two == min(first + other, room)
            if first + other > room:
                assert abs(one - two) <= 1 or one == first or two == other


def test_equal_queries_are_tokenized_once(directories, monkeypatch):
    tokenizer = pairs_of(directories())
    seen = []
    contents = TextTokenizer.contents

    def noted(self, texts):
        seen.append(len(texts))
        return contents(self, texts)

    monkeypatch.setattr(TextTokenizer, "contents", noted)
    tokenizer.encode(["rain", "fox", "rain", "rain"], ["a", "b", "c", "d"])
    assert sorted(seen) == [2, 4]


def test_no_pairs(directories):
    found = pairs_of(directories()).encode([], [])
    assert (len(found.input_ids), found.offsets.tolist(), len(found.seconds)) == (0, [0], 0)


def test_texts_of_any_length_take_bounded_time(directories):
    tokenizer = pairs_of(directories())
    long = "corpus of vectors " * 20_000
    found = tokenizer.encode(["rain", long, "rain"], [long, "rain", "fox"])
    assert found.n_tokens.min() < 20 and found.n_tokens.max() > 60_000
    assert np.diff(found.offsets).max() == 24


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("[CLS]:2 $A:0 [SEP]:0 $B:1 [SEP]:1", "gives a pair of texts the token types"),
        ("[CLS] $A:1 [SEP] $B:0 [SEP]", "gives a pair of texts the token types"),
    ],
)
def test_token_types_of_another_meaning_are_refused(directories, pair, message):
    texts = load_tokenizer(TokenizerSpec(directories(), 24))
    ends = [(name, texts.tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    texts.tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=ends
    )
    with pytest.raises(ConfigError, match=message):
        PairTokenizer(texts, TYPED)


def block_of(pairs):
    rows = [
        {
            **dict.fromkeys(["id", "doc_id"], str(n)),
            **dict.fromkeys(["chunk_index", "char_start", "char_end", "row_index"], 0),
            "text_hash": "",
            "source": "a",
            "text": text,
            "question": query,
        }
        for n, (query, text) in enumerate(pairs)
    ]
    schema = pa.schema([*DOCUMENT_SCHEMA, pa.field("question", pa.string())])
    return DocumentBlock(
        "00000", 0, len(rows), True, (), pa.RecordBatch.from_pylist(rows, schema=schema)
    )


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("typed", [False, True])
def test_rows_of_a_block(directories, keep, typed):
    pairs = [("fox", "a corpus"), ("rain", "\u200b \u200d"), ("see", "rain")]
    tokenizer = pairs_of(directories(), rules=PairRules(typed, "question", keep))
    block = tokenize_rows(block_of(pairs), tokenizer)
    assert block.rows.column("id").to_pylist() == ["0", "2"]
    assert [(reject.doc_id, reject.reason) for reject in block.rejects] == [("1", "no_tokens")]
    names = block.rows.schema.names
    assert ("question" in names, SECOND_FIELD.name in names) == (keep, typed)
    expected = tokenizer.encode(["fox", "see"], ["a corpus", "rain"])
    assert np.concatenate(block.rows.column("input_ids").to_pylist()).tolist() == list(
        expected.input_ids
    )
    assert block.rows.column("n_tokens").to_pylist() == expected.n_tokens.tolist()
    if typed:
        assert block.rows.column(SECOND_FIELD.name).to_pylist() == expected.seconds.tolist()


def test_rows_of_single_texts_stay_what_they_were(directories):
    tokenizer = load_row_tokenizer(TokenizerSpec(directories(), 24))
    block = tokenize_rows(block_of([("fox", "a corpus")]), tokenizer)
    assert block.rows.schema.names[-3:] == ["input_ids", "n_tokens", "truncated"]
