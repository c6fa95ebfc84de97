"""Token ids, counts and truncation against the tokenizers of transformers themselves."""

import itertools
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import FOREIGN, MESSY, paragraphs
from tiny_models import SENTENCES, make_tokenizer
from tokenizers import processors
from transformers import AutoTokenizer

from embedkit.errors import ConfigError
from embedkit.records import DOCUMENT_SCHEMA, TOKEN_FIELDS, DocumentBlock, Reject
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.tokens.transformers_library import transformers_library

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


@pytest.fixture
def library(monkeypatch):
    """Every tokenizer without a cache of words."""
    monkeypatch.setattr("embedkit.tokens.text_tokenizer.tokenizes_words", lambda _: False)


def rows_of(tokenizer, texts):
    ids, offsets, n_tokens = tokenizer.encode(texts)
    return [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)], n_tokens


def check_against_transformers(directory, texts, max_tokens, prompt=""):
    oracle = AutoTokenizer.from_pretrained(directory)
    whole = oracle([prompt + text for text in texts])["input_ids"]
    cut = oracle([prompt + text for text in texts], truncation=True, max_length=max_tokens)
    tokenizer = load_tokenizer(TokenizerSpec(directory, max_tokens, prompt))
    rows, n_tokens = rows_of(tokenizer, texts)
    assert rows == cut["input_ids"]
    assert n_tokens.tolist() == [len(row) for row in whole]
    assert tokenizer.count(texts) == n_tokens.tolist()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_truncation(kind, side, saved):
    for max_tokens in (3, 4, 7, 24, 10_000):
        check_against_transformers(saved(kind, side), SENTENCES, max_tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts(kind, saved):
    check_against_transformers(saved(kind), SENTENCES, 24, prompt="passage: ")


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=6),
    max_tokens=st.integers(3, 20),
)
def test_any_text(saved, texts, max_tokens):
    if texts:
        check_against_transformers(saved("bytes"), texts, max_tokens)
        check_against_transformers(saved("wordpiece"), texts, max_tokens)


def test_special_tokens_inside_texts(saved):
    check_against_transformers(saved("wordpiece"), ["a [SEP] b [PAD] c", "[CLS]" * 9, "\0"], 6)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("side", ["right", "left"])
def test_words_without_the_cache(side, saved):
    texts = [*SENTENCES, *MESSY, "a [SEP] b [PAD] c", "[CLS]" * 9, "\0"]
    for max_tokens in (3, 7, 10_000):
        check_against_transformers(saved("wordpiece", side), texts, max_tokens)


def test_strings_that_break_programs(saved):
    for kind in KINDS:
        check_against_transformers(saved(kind), list(MESSY), 16)


def test_real_model_on_real_text(minilm):
    foreign = [sentence for language in FOREIGN.values() for sentence in language]
    check_against_transformers(minilm, [*paragraphs()[:400], *foreign], 256)


def test_slices_of_a_long_block_are_joined_in_order(saved, monkeypatch):
    tokenizer = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24))
    expected, counts = rows_of(tokenizer, SENTENCES)
    monkeypatch.setattr("embedkit.tokens.text_tokens.SLICE", 30)
    assert len(list(tokenizer._contents(SENTENCES))) > 3
    rows, sliced_counts = rows_of(tokenizer, SENTENCES)
    assert rows == expected
    assert sliced_counts.tolist() == counts.tolist()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(4)
def test_long_texts_are_tokenized_in_pieces(kind, side, saved, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.text_tokens.PIECE", 700)
    monkeypatch.setattr("embedkit.tokens.text_tokens.SLICE", 1500)
    long = " ".join(SENTENCES * 5)
    texts = ["short", long, "x" * 5000, "." * 5000 + "end", "\u4e2d" * 3000, "", long[::-1]]
    for max_tokens in (24, 10_000):
        check_against_transformers(saved(kind, side), texts, max_tokens, prompt="passage: ")


def test_threads_share_a_tokenizer(saved):
    tokenizer = load_tokenizer(TokenizerSpec(saved("wordpiece"), 12))
    texts = SENTENCES * 20
    expected, _ = rows_of(tokenizer, texts)
    with ThreadPoolExecutor(4) as threads:
        for rows, _ in threads.map(lambda _: rows_of(tokenizer, texts), range(16)):
            assert rows == expected


def test_saved_padding_and_truncation_are_switched_off(minilm):
    saved = json.loads(Path(minilm, "tokenizer.json").read_text())
    assert saved["truncation"] and saved["padding"], "the model must have them for this test"
    tokenizer = load_tokenizer(TokenizerSpec(minilm, 256)).tokenizer
    assert tokenizer.truncation is None
    assert tokenizer.padding is None


def test_room_for_content(saved):
    plain = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24))
    assert plain.max_content_tokens == 22
    prompted = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24, "one two "))
    prompt_tokens = len(plain.tokenizer.encode("one two ", add_special_tokens=False).ids)
    assert prompted.max_content_tokens == 22 - prompt_tokens
    assert load_tokenizer(TokenizerSpec(saved("bare"), 24)).max_content_tokens == 24


def test_no_room_for_content(saved):
    with pytest.raises(ConfigError, match="max_tokens is 2"):
        load_tokenizer(TokenizerSpec(saved("wordpiece"), 2))
    with pytest.raises(ConfigError, match="of the prompt"):
        load_tokenizer(TokenizerSpec(saved("wordpiece"), 4, "one two three four"))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "template", ["[CLS] [MASK] $A [UNK] [SEP]", "$A [MASK] [SEP]", "[MASK] [CLS] $A", "$A"]
)
def test_several_special_tokens(template, side, tmp_path):
    tokenizer = make_tokenizer("wordpiece", side)
    names = [name for name in template.split() if name != "$A"]
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=special
    )
    tokenizer.save_pretrained(tmp_path)
    check_against_transformers(str(tmp_path), [*SENTENCES, "", " ".join(SENTENCES)], 8)


@pytest.mark.parametrize("template", ["$A $A", "$A [SEP] $A"])
def test_a_text_that_does_not_stay_in_one_piece(template, tmp_path):
    tokenizer = make_tokenizer("wordpiece")
    special = [("[SEP]", tokenizer.convert_tokens_to_ids("[SEP]"))]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=special
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="in one piece"):
        load_tokenizer(TokenizerSpec(str(tmp_path), 24))


@pytest.mark.parametrize("kind", KINDS)
def test_lower_case(kind, saved):
    tokenizer = load_tokenizer(TokenizerSpec(saved(kind), 24, lower_case=True))
    (upper, lower), _ = rows_of(tokenizer, ["ALL Capitals", "all capitals"])
    assert upper == lower


def test_a_directory_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match="no tokenizer in it") as raised:
        load_tokenizer(TokenizerSpec(str(tmp_path), 24))
    assert "\n" not in str(raised.value)


def test_a_damaged_tokenizer(tmp_path, saved):
    for file in Path(saved("wordpiece")).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {')
    with pytest.raises(ConfigError, match="tokenizer cannot be read") as raised:
        load_tokenizer(TokenizerSpec(str(tmp_path), 24))
    assert "\n" not in str(raised.value)


def test_code_of_a_directory_does_not_run(tmp_path):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}})
    )
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}})
    )
    (tmp_path / "vocab.txt").write_text("[UNK]")
    with pytest.raises(ConfigError):
        load_tokenizer(TokenizerSpec(str(tmp_path), 24))
    assert not (tmp_path / "ran").exists()


def block_of(texts):
    count = len(texts)
    columns = {
        "id": [str(n) for n in range(count)],
        "doc_id": [str(n) for n in range(count)],
        "chunk_index": [0] * count,
        "char_start": [0] * count,
        "char_end": [len(text) for text in texts],
        "text_hash": [str(n) for n in range(count)],
        "source": ["source"] * count,
        "row_index": list(range(count)),
        "text": texts,
        "year": list(range(count)),
    }
    rows = pa.RecordBatch.from_pydict(
        columns, schema=DOCUMENT_SCHEMA.append(pa.field("year", "int64"))
    )
    reject = Reject("source", 99, "empty_text", "empty")
    return DocumentBlock("00003", 2, count + 1, True, (reject,), rows, documents_before=7)


def test_tokenizing_a_block(saved):
    block = block_of(SENTENCES)
    tokenizer = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24))
    tokens = tokenize_text(block, tokenizer)
    rows, n_tokens = rows_of(tokenizer, SENTENCES)
    assert tokens.rows.column("input_ids").to_pylist() == rows
    assert tokens.rows.column("n_tokens").to_pylist() == n_tokens.tolist()
    truncated = (n_tokens > 24).tolist()
    assert any(truncated) and not all(truncated)
    assert tokens.rows.column("truncated").to_pylist() == truncated
    assert [*tokens.rows.schema][-3:] == [*TOKEN_FIELDS]
    assert tokens.rows.select(block.rows.schema.names).equals(block.rows)
    header = ("split_id", "seq", "documents", "last", "rejects", "documents_before")
    assert [getattr(tokens, n) for n in header] == [getattr(block, n) for n in header]
    tokens.rows.validate(full=True)


def test_tokenizing_an_empty_block(saved):
    tokens = tokenize_text(block_of([]), load_tokenizer(TokenizerSpec(saved("wordpiece"), 24)))
    assert tokens.rows.num_rows == 0
    assert [*tokens.rows.schema][-3:] == [*TOKEN_FIELDS]


BLANK = ["\u200b\u200c\u2060", "\x01\x02", " \u200d \n", "\ufeff", "\u200b" * 3000, "\x7f" * 70_000]


@pytest.mark.parametrize("prompt", ["", "passage: "])
@pytest.mark.parametrize("kind", ["wordpiece", "mpnet", "bare"])
def test_texts_of_which_nothing_is_left_are_rejects(saved, kind, prompt):
    tokenizer = load_tokenizer(TokenizerSpec(saved(kind), 24, prompt))
    texts = [
        *itertools.chain(*zip(SENTENCES, BLANK, strict=False)),
        "\u200bA",
        ".",
        "passage:",
        "a",
    ]
    tokens = tokenize_text(block_of(texts), tokenizer)
    kept = [text for text in texts if text not in BLANK]
    assert tokens.rows.column("text").to_pylist() == kept
    assert [reject.reason for reject in tokens.rejects[1:]] == ["no_tokens"] * len(BLANK)
    assert [texts[reject.row_index] for reject in tokens.rejects[1:]] == BLANK
    rows = tokens.rows.column("input_ids").to_pylist()
    assert (
        rows
        == AutoTokenizer.from_pretrained(saved(kind))(
            [prompt + text for text in kept], truncation=True, max_length=24
        )["input_ids"]
    )


def test_white_space_that_a_tokenizer_keeps_says_nothing_either(saved):
    for kind in ("unigram", "xlm", "bytes"):
        tokenizer = load_tokenizer(TokenizerSpec(saved(kind), 24))
        tokens = tokenize_text(block_of(["\u3000 \t"[2:], "a b", "\n \n", " a"]), tokenizer)
        assert tokens.rows.column("text").to_pylist() == ["a b", " a"]
        assert [reject.row_index for reject in tokens.rejects[1:]] == [0, 2]


def test_chunks_of_which_nothing_is_left_are_left_out(saved):
    block = block_of(["\u200b", "a b", "\u200c", "\u200d", "\ufeff"])
    rows = block.rows.set_column(
        1, DOCUMENT_SCHEMA.field("doc_id"), pa.array(["d", "d", "d", "e", "e"])
    )
    tokens = tokenize_text(
        block.with_rows(rows), load_tokenizer(TokenizerSpec(saved("wordpiece"), 24))
    )
    assert tokens.rows.column("text").to_pylist() == ["a b"]
    assert [(one.doc_id, one.reason) for one in tokens.rejects[1:]] == [("e", "no_tokens")]
    assert tokens.rejects[1].row_index == 3


UNSEEN = {
    "a braille blank": "\u2800", "a Hangul filler": "\u3164", "Hangul fillers": "\u115f\u1160",
    "a halfwidth filler": "\uffa0", "a variation selector": "\ufe0f", "tags": "\U000e0041",
    "several": "\u2800 \u3164\u200b\n", "a long text": "\u2800 " * 40_000,
}  # fmt: skip
CHEROKEE = "\u13e3\u13b3"


@pytest.mark.parametrize("prompt", ["", "a: ", "\u13e3: "])
@pytest.mark.parametrize("kind", ["wordpiece", "mpnet", "bare", "unigram", "xlm"])
@pytest.mark.few(5)
def test_texts_of_which_nothing_is_seen_are_rejects_and_unknown_ones_are_not(saved, kind, prompt):
    tokenizer = load_tokenizer(TokenizerSpec(saved(kind), 24, prompt))
    unknown = AutoTokenizer.from_pretrained(saved(kind)).unk_token_id
    texts = [*UNSEEN.values(), CHEROKEE, "\U0001f600", "\u13e3 a", ".", "a"]
    tokens = tokenize_text(block_of(texts), tokenizer)
    assert tokens.rows.column("text").to_pylist() == texts[len(UNSEEN) :]
    assert unknown in tokens.rows.column("input_ids").to_pylist()[0]
    rejects = tokens.rejects[1:]
    assert [reject.row_index for reject in rejects] == [*range(len(UNSEEN))]
    assert {reject.reason for reject in rejects} == {"no_tokens"}


def test_chunks_of_which_nothing_is_seen_are_left_out(saved):
    block = block_of(["\u2800", CHEROKEE, "\u3164", "\u2800"])
    doc_ids = pa.array(["d", "d", "e", "e"])
    rows = block.rows.set_column(1, DOCUMENT_SCHEMA.field("doc_id"), doc_ids)
    tokenizer = load_tokenizer(TokenizerSpec(saved("wordpiece"), 24))
    tokens = tokenize_text(block.with_rows(rows), tokenizer)
    assert tokens.rows.column("text").to_pylist() == [CHEROKEE]
    assert [one.doc_id for one in tokens.rejects[1:]] == ["e"]


def test_a_spec_travels(saved):
    spec = TokenizerSpec(saved("xlm"), 24, "query: ", True)
    assert pickle.loads(pickle.dumps(spec)) == spec
    ids, _, _ = load_tokenizer(spec).encode(["a"])
    assert ids.dtype == np.int32


def test_a_dropout_of_merges_is_for_training_alone(saved, tmp_path):
    make_tokenizer("bytes").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["dropout"] = 0.5
    file.write_text(json.dumps(content))
    text = "The quick brown fox jumps over the lazy dog."
    texts = [text] * 20
    rows, _ = rows_of(load_tokenizer(TokenizerSpec(str(tmp_path), 64)), texts)
    assert rows == rows_of(load_tokenizer(TokenizerSpec(saved("bytes"), 64)), texts)[0]


REPLACES_ITSELF = """
import sys, time, types
time.sleep(0.05)
sys.modules[__name__] = types.SimpleNamespace(AutoTokenizer="there")
"""


def test_threads_that_are_first_to_ask_for_transformers_all_get_what_it_becomes(
    monkeypatch, tmp_path
):
    (tmp_path / "transformers.py").write_text(REPLACES_ITSELF)
    monkeypatch.delitem(sys.modules, "transformers")
    monkeypatch.syspath_prepend(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: transformers_library(), range(4)))
    assert [library.AutoTokenizer for library in found] == ["there"] * 4
