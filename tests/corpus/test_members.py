"""Compressed files of one member and of many, whole and broken, as each kind's tool has them."""

import lzma
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
import zstandard
from reading import COMPRESS, Corpus, read_corpus

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
LINES = [f"{n} {n * 0x9E3779B97F4A7C15:x}" for n in range(120)]
DATA = "".join(f"{line}\n" for line in LINES).encode()
CUT = DATA.index(b"\n60 ") + 9
"""In the middle of a line."""
_checked = zstandard.ZstdCompressor(write_checksum=True).compress
_SKIPPED = b"\x5e\x2a\x4d\x18\x05\0\0\0hello"


def pack(data: bytes, suffix: str) -> bytes:
    return _checked(data) if suffix == ".zst" else COMPRESS[suffix](data)


def bgzf(data: bytes) -> bytes:
    """One block of a blocked gzip file, as bgzip writes it."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data) + packer.flush()
    size = (len(body) + 25).to_bytes(2, "little")
    tail = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + size + body + tail


def blocks(*more: bytes) -> bytes:
    return b"".join(bgzf(DATA[at : at + 997]) for at in range(0, len(DATA), 997)) + b"".join(more)


def read(tmp_path: Path, data: bytes, suffix: str, **settings: str) -> Corpus:
    path = tmp_path / f"data.txt{suffix}"
    path.write_bytes(data)
    return read_corpus(path, **settings)


def whole(suffix: str) -> dict[str, bytes]:
    one, empty = pack(DATA, suffix), pack(b"", suffix)
    first, second = pack(DATA[:CUT], suffix), pack(DATA[CUT:], suffix)
    pieces = [DATA[at : at + 97] for at in range(0, len(DATA), 97)]
    found = {
        "one": one, "two": first + second, "many": b"".join(pack(one, suffix) for one in pieces),
        "empty ones": empty + first + empty + second + empty,
        "padded": one + bytes(513), "padding between": first + bytes(70_000) + second,
    }  # fmt: skip
    if suffix == ".gz":
        named = one[:3] + b"\x18" + one[4:10] + b"name\0comment\0" + one[10:]
        found |= {"blocked": blocks(bgzf(b"")), "named": named}
    if suffix == ".zst":
        long = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
        found["skipped frames"] = _SKIPPED + first + _SKIPPED + second + _SKIPPED * 2
        found["long window"] = zstandard.ZstdCompressor(compression_params=long).compress(DATA)
        found["no size"] = b"".join(
            (packer := zstandard.ZstdCompressor().compressobj()).compress(part) + packer.flush()
            for part in (DATA[:CUT], DATA[CUT:])
        )
    if suffix == ".xz":
        found["the older form"] = lzma.compress(DATA, lzma.FORMAT_ALONE)
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_of_every_form(tmp_path: Path, suffix: str) -> None:
    for form, data in whole(suffix).items():
        corpus = read(tmp_path, data, suffix)
        assert (corpus.texts, corpus.rejects) == (LINES, []), form


TOOLS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}


def unpacked(data: bytes, suffix: str) -> tuple[bool, list[str]] | None:
    """What the tool says of a file and the whole lines that it finds; None where there is none."""
    if shutil.which(TOOLS[suffix]) is None:
        return None
    done = subprocess.run([TOOLS[suffix], "-dc"], input=data, capture_output=True, check=False)
    return done.returncode == 0, done.stdout[: done.stdout.rfind(b"\n") + 1].decode().splitlines()


@pytest.mark.parametrize("form", ["one", "two"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_anywhere(tmp_path: Path, suffix: str, form: str) -> None:
    data = whole(suffix)[form]
    ends = {len(pack(DATA[:CUT], suffix))} if form == "two" else set()
    for size in {*range(1, 13), *range(1, len(data), 97), len(data) - 1, *ends}:
        corpus = read(tmp_path, data[:size], suffix)
        # Nothing tells a cut between two members from an end.
        assert corpus.reasons == ([] if size in ends else ["damaged_file"]), size
        whole_lines = corpus.texts[:-1] if size in ends else corpus.texts
        assert whole_lines == LINES[: len(whole_lines)]
        if (found := unpacked(data[:size], suffix)) and size % 4 == 0:
            good, lines = found
            assert good == (size in ends)
            assert len(corpus.texts) >= len(lines)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_lines_before_the_damage_are_read(tmp_path: Path, suffix: str) -> None:
    first = pack(DATA[:CUT], suffix)
    second = pack(DATA[CUT:], suffix)
    whole_lines = DATA[:CUT].count(b"\n")
    for place in (0, 1, 2, len(second) // 2, len(second) - 5):
        broken = bytearray(second)
        broken[place] ^= 0x55
        corpus = read(tmp_path, first + bytes(broken), suffix)
        assert corpus.reasons == ["damaged_file"], place
        assert corpus.texts[:whole_lines] == LINES[:whole_lines], place
        assert "the rest of the file is missing" in corpus.rejects[0].detail, place
        # Half a line is no record.
        assert DATA[:CUT].rpartition(b"\n")[2].decode() not in corpus.texts, place


def test_the_older_form_of_xz_by_its_own_name(tmp_path: Path) -> None:
    data = lzma.compress(DATA, lzma.FORMAT_ALONE)
    assert read(tmp_path, data, ".lzma").texts == LINES
    assert read(tmp_path, data[:-30], ".lzma").reasons == ["damaged_file"]


def test_what_can_be_unpacked_of_a_broken_member_is_read(tmp_path: Path) -> None:
    # All of it would come with the call of the decompressor that fails.
    data = bytearray(pack(DATA, ".gz"))
    data[-6] ^= 1
    corpus = read(tmp_path, bytes(data), ".gz")
    assert (corpus.texts, corpus.reasons) == (LINES, ["damaged_file"])
    assert "may be wrong as well" in corpus.rejects[0].detail
    data = bytearray(pack(DATA, ".gz"))
    data[len(data) // 2 : len(data) // 2 + 4] = b"\xff\xff\xff\xff"
    corpus = read(tmp_path, bytes(data), ".gz")
    assert len(corpus.texts) > 40
    assert corpus.texts[:40] == LINES[:40]


GARBAGE = {
    "text": b"garbage", "a line end": b"\r\n", "a page": b"<html>" * 99, "bytes": b"\x80" * 9,
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_behind_the_end_costs_nothing_and_is_told(
    tmp_path: Path, suffix: str, garbage: str
) -> None:
    corpus = read(tmp_path, pack(DATA.rstrip(b"\n"), suffix) + GARBAGE[garbage], suffix)
    assert (corpus.texts, corpus.reasons) == (LINES, ["damaged_file"])
    assert "only garbage follows, and nothing before it is missing" in corpus.rejects[0].detail


def test_blocks_without_their_last_one_are_cut(tmp_path: Path) -> None:
    cut = blocks()
    for data, kept in ((cut, len(LINES)), (bgzf(DATA[:997]), DATA[:997].count(b"\n"))):
        corpus = read(tmp_path, data, ".gz")
        assert (corpus.texts, corpus.reasons) == (LINES[:kept], ["damaged_file"])
    corpus = read(tmp_path, blocks(bgzf(b""), bgzf(b"more\n"), bgzf(b"")), ".gz")
    assert (corpus.texts, corpus.rejects) == ([*LINES, "more"], [])


def test_many_small_members_take_no_quadratic_time(tmp_path: Path) -> None:
    data = b"".join(pack(b"%d\n" % n, ".gz") for n in range(3_000))
    assert len(read(tmp_path, data, ".gz").texts) == 3_000


@pytest.mark.parametrize("data", [b"BZh is text", b"(in brackets)\n", b"]\n"])
def test_text_that_begins_as_a_compressed_file_does(tmp_path: Path, data: bytes) -> None:
    for suffix in SUFFIXES:
        assert read(tmp_path, data, suffix).texts == [data.decode().strip()]
