"""Folders of judged queries in the layout of BEIR (Thakur et al., 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.search.evaluate.records import id_of, json_records, rows_of_table, text_of

_USUAL_SPLIT = "test"
_FIELDS = 3


@dataclass(frozen=True)
class Benchmark:
    """Queries, and which documents answer each of them.

    Attributes:
        folder: Where it is.
        queries: The texts of the judged queries by their ids.
        gains: Of each judged query the documents that were judged and how relevant each is; at
            least one of them is, above 0.
        unanswered: Judged queries that no document answers, which are left out.
        judgments: The file of judgments.
        places: Where each judged document is first named, for a person.
    """

    folder: Path
    queries: dict[str, str]
    gains: dict[str, dict[str, int]]
    unanswered: int
    judgments: Path
    places: dict[str, str]

    @property
    def corpus(self) -> Path | None:
        """Its file of documents, where it has one."""
        path = self.folder / "corpus.jsonl"
        return path if path.exists() else None

    def check_documents(self, known: set[str], whose: str) -> None:
        """Checks that every judged document is there.

        Raises:
            InputError: There is none of some id.
        """
        unknown = [name for name in self.places if name not in known]
        if unknown:
            raise InputError(
                f"{self.places[unknown[0]]}: judges document {unknown[0]!r}, which is not among "
                f"those of {whose} ({len(unknown):,} such ids); give the judgments of this corpus"
            )


@dataclass(frozen=True)
class Document:
    """A document of a benchmark's own corpus.

    Attributes:
        id: Its id.
        title: Its title; empty without one.
        text: Its text.
        place: Where it stands, for a person.
    """

    id: str
    title: str
    text: str
    place: str


def read_benchmark(folder: Path, split: str | None = None) -> Benchmark:
    """Reads queries and judgments: ``queries.jsonl``, and ``qrels.tsv`` or ``qrels/SPLIT.tsv``.

    Args:
        folder: The folder.
        split: Which file of ``qrels/``; ``test``, or the only one, unless given.

    Raises:
        InputError: A file is missing, holds what it should not, an id twice, an empty query, or
            judges a query that is not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with queries.jsonl and qrels.tsv")
    path = _judgments_file(folder, split)
    queries = _queries(folder / "queries.jsonl")
    gains: dict[str, dict[str, int]] = {}
    places: dict[str, str] = {}
    for place, query, document, gain in _judgments(path):
        if query not in queries:
            raise InputError(
                f"{place}: judges query {query!r}, which is not in {folder / 'queries.jsonl'}; "
                "give the judgments of these queries"
            )
        if document in gains.setdefault(query, {}):
            raise InputError(
                f"{place}: judges document {document!r} for query {query!r} a second time; "
                "remove one of the two"
            )
        gains[query][document] = gain
        places.setdefault(document, place)
    answered = {query: of for query, of in gains.items() if max(of.values()) > 0}
    if not answered:
        raise InputError(f"{path}: no query has a relevant document; give judgments above 0")
    return Benchmark(
        folder=folder,
        queries={query: queries[query] for query in answered},
        gains=answered,
        unanswered=len(gains) - len(answered),
        judgments=path,
        places=places,
    )


def read_documents(path: Path) -> Iterator[Document]:
    """Reads the documents of a benchmark.

    Raises:
        InputError: The file cannot be read, or has an id twice or none.
    """
    seen: set[str] = set()
    for place, record in json_records(path):
        name = id_of(record, place)
        if name in seen:
            raise InputError(f"{place}: id {name!r} a second time; remove one of the two")
        seen.add(name)
        yield Document(name, text_of(record, "title", place), text_of(record, "text", place), place)


def _judgments_file(folder: Path, split: str | None) -> Path:
    alone, several = folder / "qrels.tsv", folder / "qrels"
    if split is None and alone.is_file():
        return alone
    files = sorted(several.glob("*.tsv"))
    name = split or (_USUAL_SPLIT if len(files) != 1 else files[0].stem)
    path = several / f"{name}.tsv"
    if path in files:
        return path
    found = ", ".join(file.stem for file in files)
    remedy = f"choose one of {found} by --split" if found else "give judgments in BEIR's layout"
    raise InputError(f"{folder}: neither qrels.tsv nor qrels/{name}.tsv; {remedy}")


def _queries(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for place, record in json_records(path):
        name, text = id_of(record, place), text_of(record, "text", place)
        if name in queries:
            raise InputError(f"{place}: id {name!r} a second time; remove one of the two")
        if not text.strip():
            raise InputError(f"{place}: query {name!r} has no text; mend or remove it")
        queries[name] = text
    return queries


def _judgments(path: Path) -> Iterator[tuple[str, str, str, int]]:
    for number, (place, row) in enumerate(rows_of_table(path, "\t", quoted=False)):
        if number == 0 and row[-1] == "score":
            continue
        if len(row) != _FIELDS:
            raise InputError(
                f"{place}: {len(row)} fields, expected query-id, corpus-id and score, with tabs "
                "between them; mend it"
            )
        query, document, gain = row
        try:
            yield place, query, document, int(gain)
        except ValueError as error:
            raise InputError(
                f"{place}: score {gain!r} is no whole number; mend or remove the line"
            ) from error
