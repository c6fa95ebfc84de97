"""The line that a report names is the line in the file, however many ranges it was read in."""

from dataclasses import astuple
from pathlib import Path

import pytest
from reading import read_corpus

from embedkit.dataset.commit import SplitEnd
from embedkit.line_numbers import LineNumbers


@pytest.mark.parametrize("split_bytes", [40, 333, 10_000])
@pytest.mark.parametrize("suffix", ["jsonl", "txt"])
def test_lines_of_rejects_of_many_ranges(tmp_path: Path, suffix: str, split_bytes: int) -> None:
    good = '{"text": "good"}'
    lines = [good if n % 7 else "" if n % 3 else '{"text": "nul \0"}' for n in range(1, 301)]
    path = tmp_path / f"a.{suffix}"
    path.write_text("\n".join(lines))
    corpus = read_corpus(path, split_bytes=split_bytes)
    ends = {
        block.split_id: SplitEnd(block.split_id, 1, 1, tuple(map(astuple, block.lines)))
        for block in corpus.blocks
        if block.last
    }
    numbers = LineNumbers.of(corpus.plan.splits, ends)
    wanted = [number for number, line in enumerate(lines, 1) if "\0" in line]
    assert [numbers.true_line(one).line for one in corpus.rejects] == wanted
    assert numbers.counts is not None
    assert (numbers.counts.lines, numbers.counts.blank) == (300, lines.count(""))
