"""Near duplicates of a version against brute force: pairs found, CPU seconds, peak memory.

The rows are sentences of WikiText-2, whole and in halves, thirds and quarters, and a fifth of them
edited copies of others. Vectors are the model's, or with ``--near-synthetic`` random ones. A
process of its own looks for near duplicates; faiss's flat index and SciPy say what there is.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embedkit.dataset.manifest import Part
from embedkit.dataset.version import Version
from embedkit.flow.near_duplicates import NEAR_ARROW, find_near_duplicates
from tests.benchmarks.host_once import peak_mib
from tests.benchmarks.machine import describe_machine
from tests.near_rows import clustered, write_parts

_PART_ROWS = 8192
_EDITED = 0.2
_SHORTEST_WORDS = 3
_QUERIES_AT_ONCE = 1024
_TEXTS_AT_ONCE = 4096
_PROMISED_MIB = 953.0


def sentences_with_edits(texts: list[str], count: int) -> list[str]:
    """Returns so many texts: pieces of sentences, a fifth of them with an edit or two.

    Args:
        texts: Paragraphs.
        count: How many; fewer where there are not enough different pieces.
    """
    random = np.random.default_rng(0)
    found: dict[str, None] = {}
    wanted = int(count * (1 - _EDITED))
    sentences = [one.split() for text in texts for one in re.split(r"(?<=[.!?]) ", text)]
    for pieces in (1, 2, 3, 4):
        for words in sentences:
            for piece in np.array_split(np.array(words, object), pieces):
                if len(piece) >= _SHORTEST_WORDS and len(found) < wanted:
                    found[" ".join(piece)] = None
    originals = list(found)
    chosen = random.integers(0, len(originals), int(len(originals) * _EDITED / (1 - _EDITED)))
    rows = originals + [_edited(originals[one], originals, random) for one in chosen]
    return [rows[place] for place in random.permutation(len(rows))]


def _edited(text: str, others: list[str], random: np.random.Generator) -> str:
    words = text.split()
    for _ in range(random.integers(1, 3)):
        place = int(random.integers(0, len(words)))
        kind = random.integers(0, 5)
        if kind == 0 and len(words) > _SHORTEST_WORDS:
            del words[place]
        elif kind == 1:
            words[place] = words[place].upper()
        elif kind == 2:
            words.insert(place, words[place])
        elif kind == 3:
            words[place] = str(random.choice(others[int(random.integers(0, len(others)))].split()))
        else:
            words.append("!")
    return " ".join(words)


def encode(texts: list[str]) -> tuple[NDArray[np.float32], float]:
    """Returns the model's vectors of texts and the CPU seconds that they took."""
    from embedkit import TextEmbedder
    from tests.benchmarks.corpus import MODEL

    embedder = TextEmbedder(MODEL)
    embedder.embed(texts[:64])
    begun, vectors = time.process_time(), []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        vectors += [np.asarray(embedder.embed(texts[start : start + _TEXTS_AT_ONCE]).vectors)]
        print(f"{start + len(vectors[-1]):,} encoded", file=sys.stderr, flush=True)
    return np.concatenate(vectors).astype(np.float32), time.process_time() - begun


def brute_force(
    vectors: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns all pairs at or above a threshold, shape (n, 2), and the group of each row."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    pairs = []
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        queries = vectors[start : start + _QUERIES_AT_ONCE]
        limits, _, right = index.range_search(queries, np.float32(threshold))
        left = start + np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        pairs.append(np.column_stack([left, right])[left < right])
    every = np.concatenate(pairs)
    graph = coo_array(
        (np.ones(len(every), np.int8), (every[:, 0], every[:, 1])), shape=[len(vectors)] * 2
    )
    return every, connected_components(graph, directed=False)[1].astype(np.int64)


def _pairs_in(*labels: NDArray[np.int64]) -> int:
    """Returns how many pairs of rows have the same labels."""
    _, counts = np.unique(np.column_stack(labels), axis=0, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _labels(version: Version, rows: int) -> NDArray[np.int64]:
    """Returns the group of each row as the file says; one that is in none has one of its own."""
    labels = -1 - np.arange(rows)
    with pa.ipc.open_file(Path(version.url) / NEAR_ARROW) as file:
        table = file.read_all()
    places = [int(one.removeprefix("row-")) for one in table.column("id").to_pylist()]
    labels[places] = table.column("group").to_numpy()
    return labels


def measure(
    texts: list[str], vectors: NDArray[np.float32], folder: Path, threshold: str
) -> dict[str, float]:
    """Writes a version, has its near duplicates found, and compares them with brute force."""
    version = Version(str(folder), "v1")
    cuts = [
        range(start, min(start + _PART_ROWS, len(vectors)))
        for start in range(0, len(vectors), _PART_ROWS)
    ]
    parts = write_parts(version, vectors, cuts, texts=texts)
    (folder / "parts.json").write_text(json.dumps([part.to_dict() for part in parts]))
    command = [sys.executable, "-m", "tests.benchmarks.near_duplicates", "find", str(folder)]
    done = subprocess.run([*command, threshold], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    begun = time.process_time()
    pairs, groups = brute_force(vectors, found["threshold"])
    found["brute_seconds"] = time.process_time() - begun
    ours = _labels(version, len(vectors))
    both = _pairs_in(ours, groups)
    return found | {
        "pairs": len(pairs),
        "pair_recall": float((ours[pairs[:, 0]] == ours[pairs[:, 1]]).mean()),
        "group_recall": both / max(1, _pairs_in(groups)),
        "precision": both / max(1, _pairs_in(ours)),
    }


def _find(folder: Path, threshold: str) -> None:
    parts = tuple(map(Part.of_dict, json.loads((folder / "parts.json").read_text())))
    used, begun = time.process_time(), time.perf_counter()
    before = peak_mib()
    found = find_near_duplicates(Version(str(folder), "v1"), parts, threshold)
    peak = peak_mib()
    figures = {name: getattr(found, name) for name in ("threshold", "floor", "groups", "rows")}
    figures |= {"share": found.share, "said": found.recall, "said_pairs": found.recall_pairs}
    figures |= {"cpu": time.process_time() - used, "seconds": time.perf_counter() - begun}
    print(json.dumps(figures | {"peak": peak, "before": before}))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--near-rows", type=int, default=100_000)
    parser.add_argument("--near-threshold", default="auto")
    parser.add_argument("--near-synthetic", action="store_true")
    parser.add_argument("--near-vectors", type=Path, help="Keeps the vectors, or reads them.")


def _texts_and_vectors(
    options: argparse.Namespace,
) -> tuple[list[str], NDArray[np.float32], float | None]:
    count, kept = options.near_rows, options.near_vectors
    if options.near_synthetic:
        return [f"row {row}" for row in range(count)], clustered(count, 384, copies=0.2), None
    from tests.benchmarks.corpus import read_texts

    texts = sentences_with_edits(read_texts().texts, count)
    if kept is not None and kept.exists():
        with np.load(kept) as file:
            return texts, file["vectors"], float(file["seconds"])
    vectors, seconds = encode(texts)
    if kept is not None:
        np.savez(kept, vectors=vectors, seconds=seconds)
    return texts, vectors, seconds


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(describe_machine())
    texts, vectors, encoding = _texts_and_vectors(options)
    with tempfile.TemporaryDirectory() as name:
        found = measure(texts, vectors, Path(name), options.near_threshold)
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(
        f"\n{len(texts):,} rows of {words:.0f} words, {found['pairs']:,} pairs at a cosine of "
        f"{found['threshold']:.3f} or more; floor {found['floor']:.3f}; {found['groups']:,} groups "
        f"of {found['rows']:,} rows, {100 * found['share']:.1f} % could go"
    )
    print("\n| | recall | of rows in groups | precision | recall as said | of pairs |")
    print("|---|---|---|---|---|---|")
    said = "none" if found["said"] is None else f"{found['said']:.4f}"
    print(
        f"| pairs | {found['pair_recall']:.4f} | {found['group_recall']:.4f} "
        f"| {found['precision']:.4f} | {said} | {found['said_pairs']:,} |"
    )
    share = "" if encoding is None else f", {100 * found['cpu'] / encoding:.1f} % of encoding's"
    print(
        f"\n{found['cpu']:.1f} CPU s in {found['seconds']:.1f} s{share} (brute force "
        f"{found['brute_seconds']:.1f} CPU s); peak {found['peak']:,.0f} MiB, of which "
        f"{found['before']:,.0f} before it began; promised are {_PROMISED_MIB:,.0f} MiB"
    )
    if encoding is not None:
        print(f"encoding took {encoding:,.0f} CPU s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["find"]:
        _find(Path(sys.argv[2]), sys.argv[3])
    else:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        arguments = argparse.ArgumentParser(description=__doc__)
        add_options(arguments)
        main(arguments.parse_args())
