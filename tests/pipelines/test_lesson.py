"""The lessons say what is seen, on real data."""

import os
import re
import subprocess
import sys

import pytest

from pipelines.fitted_cross_encoder import summary_and_text

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_a_document_is_parted_behind_its_first_sentence():
    text = "name\n\nReturns the number of lines\nin a file. " + "It counts them. " * 10
    documents = [{"name": "a", "text": text}, {"name": "b", "text": "b\n\nToo short. " + text}]
    (pair,) = summary_and_text(documents)
    assert pair[:2] == ("a", "Returns the number of lines in a file")
    assert pair[2].startswith("It counts them. It counts them.")


@pytest.mark.soak
def test_all_lessons(tmp_path):
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": REPOSITORY}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.lesson"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "prince 0.8236, queen 0.7839, ii 0.7746, emperor 0.7736, son 0.7667" in said
    assert "nearest to queen (0.8524)" in said
    for word in ("bat", "bank", "face"):
        within, between = re.search(
            rf"{word}: 2 senses in 10 sentences; similarity (\S+) within a sense and (\S+) between",
            said,
        ).groups()
        assert float(within) > float(between) + 0.03
    assert "zipfile.ZipFile.extractall" in said
    assert re.search(r"Mean reciprocal rank\n  0\.\d+ by sentence vectors; 0\.\d+ where", said)
    assert {"words.html", "bat.html"} <= set(os.listdir(tmp_path / "build" / "lesson"))
