"""The files that the examples of docstrings and of the manual name."""

import json
import shutil
from pathlib import Path

from releases import MODEL, copy_of_root, releases

DOCUMENTS = {
    "fox": "The quick brown fox jumps over the lazy dog.",
    "vectors": "A corpus becomes vectors, and vectors become neighbours.",
    "rain": "Rain.",
}


def lay_out(folder: Path) -> None:
    """Makes a model, documents and an embedded corpus in a folder.

    Args:
        folder: Where the examples run.
    """
    write_model(folder / "model")
    write_model(folder / "models" / "all-MiniLM-L6-v2")
    lines = [json.dumps({"id": name, "text": text}) for name, text in DOCUMENTS.items()]
    (folder / "docs").mkdir()
    for path in (folder / "docs.jsonl", folder / "docs" / "part-0.jsonl"):
        path.write_text("".join(f"{line}\n" for line in lines))
    copy_of_root(releases()[0], folder / "embeddings")


def write_model(folder: Path) -> None:
    """Writes a tiny model as sentence-transformers lays models out, with mean pooling."""
    shutil.copytree(MODEL, folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
