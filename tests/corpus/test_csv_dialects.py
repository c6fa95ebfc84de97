"""Quotes swallow no record, and a dialect that a file plainly does not have is named."""

import csv
import io
from pathlib import Path

import duckdb
import pytest
from reading import corpus_config, read_corpus, write

from embedkit.config import CorpusConfig
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import ConfigError, InputError


def numbered(rejects):
    return [(one.reason, one.detail.partition(":")[0]) for one in rejects]


TSV_LINES = {
    "opened": '5\t"Passage that opens a quote',
    "closed": '5\t"A passage in quotes"',
    "doubled": '5\tSo ""called"" passage',
    "inside": '5\tThe 5" pipe, "the" long one',
    "id": '"5\tPassage of a quoted id',
    "apostrophe": "5\t'Tis a passage",
}


@pytest.mark.parametrize("case", TSV_LINES)
def test_every_line_of_a_tsv_is_a_record(tmp_path: Path, case: str) -> None:
    lines = [f"{n}\tPassage number {n}." for n in range(1, 24)]
    lines[4] = lines[19] = TSV_LINES[case]
    lines[19] = lines[19].replace("5", "20", 1)
    path = write(tmp_path / "collection.tsv", ["id\ttext", *lines])
    corpus = read_corpus(path, id_column="id")
    assert list(zip(corpus.ids, corpus.texts, strict=True)) == [
        tuple(line.split("\t")) for line in lines
    ]
    found = duckdb.sql(
        f"select id, text from read_csv('{path}', delim='\t', quote='', header=true, "
        "all_varchar=true)"
    )
    assert found.fetchall() == list(zip(corpus.ids, corpus.texts, strict=True))


def test_quotes_of_a_tsv_are_taken_on_request(tmp_path: Path) -> None:
    rows = [("id", "text"), ("1", 'said "so"'), ("2", "over\ntwo lines"), ("3", "a\ttab")]
    out = io.StringIO()
    csv.writer(out, "excel-tab").writerows(rows)
    path = write(tmp_path / "excel.tsv", out.getvalue())
    corpus = read_corpus(path, id_column="id", quote='"')
    assert list(zip(corpus.ids, corpus.texts, strict=True)) == rows[1:]
    corpus = read_corpus(path, id_column="id")
    assert "--quote '\"'" in corpus.rejects[-1].detail


STRAY = {
    "never closed": (['2,"opened and never closed'], ["invalid_csv"]),
    "text behind": (['2,"a title" by somebody'], ["invalid_csv"]),
    "space behind": (['2,"a title" '], ["invalid_csv"]),
    "two of them": (['2,"opened', '3,"opened as well'], ["invalid_csv"] * 2),
    "in the id": (['"2,text'], ["invalid_csv"]),
    "backslashes": (['2,"she said \\"so\\" to me"'], ["invalid_csv"]),
    "a carriage return": (["2,a\rb"], ["invalid_csv"]),
}


@pytest.mark.parametrize("last", ['9,"a proper ""one"""', "9,plain"])
@pytest.mark.parametrize("case", STRAY)
def test_a_stray_quote_costs_its_own_line(tmp_path: Path, case: str, last: str) -> None:
    bad, reasons = STRAY[case]
    good = ["1,plain one", *(f"{n},number {n}" for n in range(4, 9))]
    path = write(tmp_path / "c.csv", ["id,text", good[0], *bad, *good[1:], last])
    corpus = read_corpus(path, id_column="id")
    [*_, (_, text)] = csv.reader([last], strict=True)
    assert corpus.ids == ["1", "4", "5", "6", "7", "8", "9"]
    assert corpus.texts == ["plain one", *(f"number {n}" for n in range(4, 9)), text]
    assert corpus.reasons == reasons
    assert [one.row_index for one in corpus.rejects] == [1, 2][: len(bad)]
    assert numbered(corpus.rejects)[0] == ("invalid_csv", "line 3")
    if case == "backslashes":
        assert "--escape '\\'" in corpus.rejects[0].detail
    if case == "never closed":
        assert "lines behind it are read as records of their own" in corpus.rejects[0].detail


def test_lines_within_a_broken_record_are_no_documents(tmp_path: Path) -> None:
    lines = ["text,label", '"a long text', 'with a "stray" quote', 'and its end",x', "good,y"]
    corpus = read_corpus(write(tmp_path / "c.csv", lines))
    assert corpus.texts == ['and its end"', "good"]
    assert [one.row_index for one in corpus.rejects] == [0, 1]


@pytest.mark.parametrize("most", [2, 3, 50])
def test_a_record_over_too_many_lines(tmp_path: Path, most: int) -> None:
    stray = ['1,"opened', *(f"{n},number {n}" for n in range(2, 60)), '60,an inch is 1"', "61,x"]
    path = write(tmp_path / "c.csv", ["id,text", '0,"two\nlines"', *stray])
    corpus = read_corpus(path, id_column="id", max_record_lines=most)
    assert corpus.ids == ["0", *map(str, range(2, 62))]
    assert numbered(corpus.rejects) == [("invalid_csv", "line 4")]
    assert "--max-record-lines" in corpus.rejects[0].detail


def test_a_record_of_exactly_the_lines_allowed(tmp_path: Path) -> None:
    text = "\n".join(f"line {n}" for n in range(50))
    path = write(tmp_path / "c.csv", f'id,text\n1,"{text}"\n2,x\n')
    assert read_corpus(path, max_record_lines=50).texts == [text, "x"]
    assert read_corpus(path, max_record_lines=49, id_column="id").ids == ["2"]


def test_a_stray_quote_before_too_many_bytes(tmp_path: Path) -> None:
    rows = [f"{n},{'words ' * 9}{n}" for n in range(300)]
    path = write(tmp_path / "c.csv", ["id,text", 'a,"opened', *rows, f"b,{'x' * 5000}", "c,last"])
    corpus = read_corpus(path, id_column="id", max_record_bytes=2000)
    assert corpus.ids == [*map(str, range(300)), "c"]
    assert corpus.reasons == ["invalid_csv", "too_long"]


OTHERS = {
    "semicolon": ("id;text\n1;x\n", {}, "--delimiter ';'"),
    "tab": ("id\ttext\n1\tx\n", {}, "--delimiter tab"),
    "pipe": ("id|text\n1|x\n", {}, "--delimiter '|'"),
    "no header": ("1,some text\n2,more\n", {}, "--columns a,b,c"),
    "space": ("id, text\n1, x\n", {}, "' text'"),
    "case": ("ID,Text\n1,x\n", {}, "'Text'"),
    "columns and a header": ("id,text\n1,x\n", {"columns": ("id", "text")}, "leave --columns out"),
    "too few columns": ("1,x,y\n", {"columns": ("id", "text")}, "3 fields"),
    "columns by another": ("1;x\n", {"columns": ("id", "text")}, "--delimiter ';'"),
    "open header": ('id,"text\n1,x\n', {}, "never closed"),
    "broken header": ('id,"text"s\n1,x\n', {}, "behind a closing quote"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_dialect_is_an_error_that_names_the_flag(tmp_path: Path, case: str) -> None:
    content, given, flag = OTHERS[case]
    path = write(tmp_path / "c.csv", content)
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path, **given))
    said = str(error.value)
    assert str(path) in said
    assert flag in said
    assert "\n" not in said


NAMED = {
    "semicolons": (b"id;text\n1;a, b\n2;'c'\n", {"delimiter": ";"}),
    "single quotes": (b"id,text\n1,'a, b'\n2,\"c\"\n", {"quote": "'"}),
    "backslashes": (b'id,text\n1,"say \\"so\\""\n2,c\n', {"escape": "\\"}),
    "no quotes": (b'id,text\n1,"a\n2,b"\n', {"quote": "none"}),
    "no header": (b"1,a\n2,b\n", {"columns": "id,text"}),
    "tabs in a csv": (b"id\ttext\n1\ta\n2\tb\n", {"delimiter": "tab"}),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_named_dialect_as_pythons_reader_has_it(tmp_path: Path, case: str) -> None:
    data, given = NAMED[case]
    config = CorpusConfig(inputs=("x",), **given)
    kwargs = {"delimiter": config.delimiter or ",", "escapechar": config.escape or None}
    if config.quote == "":
        kwargs["quoting"] = csv.QUOTE_NONE
    elif config.quote:
        kwargs["quotechar"] = config.quote
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True, **kwargs))
    corpus = read_corpus(write(tmp_path / "c.csv", data), id_column="id", **given)
    found = list(map(list, zip(corpus.ids, corpus.texts, strict=True)))
    assert found == (rows if config.columns else rows[1:])
    assert corpus.rejects == []


@pytest.mark.parametrize(
    "given",
    [
        {"delimiter": "||"}, {"delimiter": "none"}, {"quote": "\n"},
        {"quote": ",", "delimiter": ","},
        {"columns": "a,a"}, {"columns": ("a", "")},
    ],
)  # fmt: skip
def test_a_dialect_that_cannot_be(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        CorpusConfig(inputs=("x",), **given)


def test_many_open_quotes_take_no_quadratic_time(tmp_path: Path) -> None:
    # Each line closes the quote of the line before and opens another.
    path = write(tmp_path / "c.csv", ["id,text", *['x",""",'] * 3000, "1,good"])
    corpus = read_corpus(path, id_column="id", max_record_lines=20)
    assert corpus.ids == ["1"]
    assert len(corpus.rejects) == 3000


PAIRED = {
    "numbers": (['2,"an inch', "3,three", "4,four", '5,ends in 5"'], ["3", "4", "5"]),
    "two lines": (['2,"an inch', '3,ends in 3"'], ["3"]),
    "names": (['doc-2,"an inch', "doc-7,three, of it".replace(", ", " "), 'doc-5,5"'],
              ["doc-7", "doc-5"]),
    "words": (['b,"an inch', "c,three", "d,four", 'e,ends in 5"'], ["c", "d", "e"]),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRED)
def test_two_stray_quotes_swallow_no_record_between_them(tmp_path: Path, case: str) -> None:
    lines, kept = PAIRED[case]
    path = write(tmp_path / "c.csv", ["id,text", "first,plain", *lines, "last,plain"])
    corpus = read_corpus(path, id_column="id")
    assert corpus.ids == ["first", *kept, "last"]
    assert numbered(corpus.rejects) == [("invalid_csv", "line 3")]
    assert "looks like a record of 2 fields" in corpus.rejects[0].detail


SWALLOWED = {
    "commas": ("id,text", ["1,x", '2,"an inch', "3,three, four", '4,ends in 5"', "5,y"], "145"),
    "gaps": ("id,text", ["1001,x", '1007,"an inch', "1032,three, four", '1090,5"', "1100,y"],
             ["1001", "1090", "1100"]),
    "keys of hex": ("id,text", ['9f0c6f3e11,"open', "1f0c6f3e12,b, c", '2a0c6f3e13,ends"', "z,x"],
                    ["2a0c6f3e13", "z"]),
    "the key behind": ("text,id", ["x,1", '"an inch,2', "three, four,3", 'ends in 5",4', "y,5"],
                       "145"),
    "a label behind": ("id,text,label", ["1,x,a", '2,"an inch,b', "3,three, four,c", '4,5",d',
                                         "5,y,e"], "145"),
    "fewer fields": ("id,text,label", ["1,x,a", '2,"an inch', "three", '4,ends in 5"', "5,y,e"],
                     "15"),
    "fewer on a line": ("id,text,label", ["1,x,a", '2,"an inch, b"', "3,y,c"], "13"),
}  # fmt: skip


@pytest.mark.parametrize("case", SWALLOWED)
def test_lines_between_two_stray_quotes_are_records_or_rejects(tmp_path: Path, case: str) -> None:
    header, lines, kept = SWALLOWED[case]
    path = write(tmp_path / "c.csv", [header, *lines])
    # No strict reader tells: the quotes by themselves are right.
    assert len(list(csv.reader(path.open(), strict=True))) < len(lines) + 1 or "on a" in case
    corpus = read_corpus(path, id_column="id")
    assert corpus.ids == list(kept)
    assert not any("\n" in text for text in corpus.texts)
    assert set(corpus.reasons) == {"invalid_csv"}
    assert len(corpus.ids) + len(corpus.rejects) == len(lines)
    assert [one.line for one in corpus.rejects] == [
        number for number, line in enumerate(lines, 2) if not set(line.split(",")) & set(kept)
    ]


def test_what_may_be_swallowed_or_lack_fields_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.csv", ["name,text", 'b,"an inch', "c,three, four", 'd,5"'])
    assert read_corpus(path).texts == ["an inch\nc,three, four\nd,5"]
    assert "a.csv: line 2: a quoted field runs over 3 lines" in caplog.text
    path = write(tmp_path / "b.csv", ["id,text,label", "1,x,y", "2,first half", "second half,y"])
    assert len(read_corpus(path).texts) == 3
    assert "b.csv: line 3: 2 fields under a header of 3" in caplog.text


SEVERAL_LINES = {
    "numbers": "3,first\n4,second\n5,third",
    "dates": "2024-01-02, met\n2024-01-03, met again",
    "years": "1999, a year\n2000, another",
    "prose": "Dear Sir, or Madam\nthank you, very much\nyours, truly\nA, B",
    "verse": "rough winds,\ndo shake,\nthe darling buds,\nof May,",
    "a list": "to buy:\n1. flour\n2. milk\n3. eggs",
    "decimals": "prices:\n3,50 EUR\nand more",
    "one price": "prices:\n4,50 EUR",
    "a table": "a,b\n1,2\n3,4",
    "no delimiters": "one\ntwo\nthree\nfour",
    "quotes": 'he said "so"\nthen, "no"',
    "returns": "one, two\r\nthree, four",
    "ends": "\nin, between\n",
}


@pytest.mark.parametrize("case", SEVERAL_LINES)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_field_of_several_lines_stays_one(tmp_path: Path, case: str, quoting: int) -> None:
    out = io.StringIO()
    rows = [("id", "text"), ("1", SEVERAL_LINES[case]), ("2", "last")]
    csv.writer(out, quoting=quoting).writerows(rows)
    path = tmp_path / "c.csv"
    path.write_text(out.getvalue(), newline="")
    corpus = read_corpus(path, id_column="id")
    assert list(zip(corpus.ids, corpus.texts, strict=True)) == rows[1:]
    assert corpus.rejects == []
