"""What a version is held against."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from embedkit.config.settings import Settings, comma_separated

_STS_COLUMNS = 3


class EvaluationConfig(Settings):
    """What a version is held against."""

    sts: tuple[str, ...] = Field(
        (),
        description="Pairs of texts with scores that people gave them, a CSV, TSV or JSONL file: "
        "how far the cosines follow the scores.",
    )
    sts_columns: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
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
