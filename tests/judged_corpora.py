"""What vectors are worth: pairs of STS-B dev, and the queries of Cranfield."""

import csv
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

STSB_SPEARMAN = 0.86716
CRANFIELD_NDCG = 0.39552
"""Of all-MiniLM-L6-v2 in float32, by sentence-transformers."""


class Corpora:
    """The public corpora as lists of texts, with their judgments."""

    def __init__(self, data: Path) -> None:
        with (data / "stsb" / "dev.csv").open(newline="") as file:
            pairs = list(csv.reader(file))
        self.first = [pair[0] for pair in pairs]
        self.second = [pair[1] for pair in pairs]
        self.scores = [float(pair[2]) for pair in pairs]
        self.wikitext = [
            line.strip()
            for name in ("valid", "test")
            for line in (data / "wikitext2" / f"{name}.txt").read_text().splitlines()
            if line.strip() and not line.startswith(" =")
        ]
        records = [json.loads(line) for line in (data / "cranfield" / "corpus.jsonl").open()]
        self.documents = {record["id"]: record["text"] for record in records}
        records = [json.loads(line) for line in (data / "cranfield" / "queries.jsonl").open()]
        self.queries = {record["id"]: record["text"] for record in records}
        with (data / "cranfield" / "qrels.tsv").open() as file:
            self.judgments = [
                (q, d, int(r)) for q, d, r in list(csv.reader(file, delimiter="\t"))[1:]
            ]

    @property
    def texts(self) -> list[str]:
        """All of them: pairs, running text, documents and queries."""
        return [
            *self.first,
            *self.second,
            *self.wikitext,
            *self.documents.values(),
            *self.queries.values(),
        ]


def ndcg_at_10(ranking: list[str], gains: dict[str, int]) -> float:
    """Normalized discounted cumulative gain with linear gain, as trec_eval's ndcg_cut_10."""
    discounts = 1 / np.log2(np.arange(2, 12))
    found = np.array([gains.get(document, 0) for document in ranking[:10]])
    best = np.array(sorted(gains.values(), reverse=True)[:10])
    return float((found * discounts).sum() / (best * discounts[: len(best)]).sum())


def cranfield_ndcg(documents: np.ndarray, queries: np.ndarray, corpora: Corpora) -> float:
    names, gains = list(corpora.documents), {}
    for query, document, relevance in corpora.judgments:
        gains.setdefault(query, {})[document] = relevance
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")
    return float(
        np.mean(
            [
                ndcg_at_10([names[place] for place in order[row]], gains[query])
                for row, query in enumerate(corpora.queries)
                if any(gains.get(query, {}).values())
            ]
        )
    )


def quality(vectors: np.ndarray, corpora: Corpora) -> tuple[float, float]:
    """Spearman of STS-B dev and nDCG@10 of Cranfield from the vectors of all their texts."""
    ends = np.cumsum(
        [
            len(corpora.first),
            len(corpora.second),
            len(corpora.wikitext),
            len(corpora.documents),
        ]
    )
    first, second, _, documents, queries = np.split(vectors, ends)
    spearman = spearmanr((first * second).sum(axis=1), corpora.scores).statistic
    return float(spearman), cranfield_ndcg(documents, queries, corpora)
