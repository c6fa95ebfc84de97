"""A line longer than many ranges: each of them reads no further than its own end."""

import io

import pytest

from embedkit.corpus.lines import iter_lines, iter_paragraphs

SIZE, PIECE = 1000, 64


class Counted:
    """A stream in small pieces that counts what is read of it."""

    def __init__(self, data: bytes, start: int) -> None:
        self._file = io.BytesIO(data)
        self._file.seek(start)
        self.bytes = 0

    def read(self) -> bytes:
        piece = self._file.read(PIECE)
        self.bytes += len(piece)
        return piece


@pytest.mark.parametrize("split", [iter_lines, iter_paragraphs])
@pytest.mark.parametrize("most", [10, 1 << 20])
def test_a_range_inside_a_long_line_ends_where_it_ends(split, most):
    data = b"first\n\n" + b"x" * 200_000 + b"\n\nlast\n"
    found, read = [], 0
    for begin in range(0, len(data), SIZE):
        stream = Counted(data, max(begin - 1, 0))
        for batch in split(stream, max(begin - 1, 0), begin, begin + SIZE, most):
            found += [
                (at, line) for at, line in zip(batch.starts, batch.lines, strict=True) if line
            ]
            if batch.long:
                found.append((batch.long.start, b"long"))
        read += stream.bytes
    assert [at for at, _ in found] == [0, 7, len(data) - 5]
    assert (found[0][1], found[2][1]) == (b"first", b"last")
    assert found[1][1] == (b"long" if most == 10 else b"x" * 200_000)
    # Once in all, once more by the range in which the line begins, and a piece at each end.
    assert read < 2.5 * len(data)
