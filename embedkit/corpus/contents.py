"""Tells the kind of a file from its first bytes, which count for more than its name."""

import codecs
import logging
from dataclasses import replace

from embedkit.config import CorpusConfig
from embedkit.corpus.names import COMPRESSIONS
from embedkit.corpus.opening import first_bytes
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

_COMPRESSED = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_SHORTEST = 9
"""No compressed file has fewer bytes."""
_BLOCK_OF_BZ2 = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
_NOT_READ = (
    (b"\x04\x22\x4d\x18", "lz4 data"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy data"),
    (b"\x02\x21\x4c\x18", "lz4 data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x1f\x9d", "data of compress (.Z)"),
    (b"LZIP\x01", "lzip data"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
)
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LARGER_THAN_POINTERS = 1024
_NO_SIZE = (1 << 64) - 1
_TAR = slice(257, 262)
_PARQUET = b"PAR1"
_ORC = b"ORC"
_REST_OF_FRAME = b"\x2a\x4d\x18"
_OLD_XZ = b"\x5d"
_BEGINNINGS = (_PARQUET, _ORC, *(mark for mark, _ in (*_COMPRESSED, *_NOT_READ)))
_TELLING = 16
"""Fewer bytes tell no encoding."""
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")

_log = logging.getLogger(__name__)


def with_true_compression(file: FileRange, config: CorpusConfig) -> FileRange:
    """Returns a file with the compression that its first bytes show, whatever its name says.

    Args:
        file: The whole file, as its name was understood.
        config: Says whether a compression was asked for.

    Raises:
        InputError: It is of a kind that is not read, or not compressed as was asked for.
    """
    if not file.size or (file.format == "parquet" and file.size >= _LARGER_THAN_POINTERS):
        # The end of a Parquet file tells what it is.
        return file
    head = first_bytes(file)
    if head.startswith(_POINTER):
        raise InputError(
            f"{file.url}: is a pointer of Git LFS in the place of the file; fetch that with git "
            "lfs pull"
        )
    if file.format == "parquet":
        return file
    if file.compression == "none" and not _may_be_other_than_text(head):
        return file
    _check_is_read(file, head)
    found = _compression(head)
    if config.compression != "auto":
        if found and found != config.compression:
            raise InputError(
                f"{file.url}: holds {found} data, not what --compression {config.compression} "
                f"says; give --compression {found}, or leave it out"
            )
        return file
    if found and found != file.compression:
        suffix = next(suffix for suffix, kind in COMPRESSIONS.items() if kind == found)
        raise InputError(
            f"{file.url}: holds {found} data by its first bytes, which its name does not say; name "
            f"it *{suffix}, or embed it by itself with --compression {found}"
        )
    cut_short = _is_beginning(head, file.compression)
    if found or file.compression == "none" or cut_short or not _is_text(head):
        return file
    _log.warning(
        "%s: is read as plain text, as its first bytes show, and not as its name says", file.url
    )
    return replace(file, compression="none")


def check_unpacked(file: FileRange, head: bytes) -> None:
    """Refuses a compressed file that holds another one, whose records would all be rejects.

    Args:
        file: The file.
        head: The first bytes of what it unpacks to.

    Raises:
        InputError: It holds an archive, or is compressed twice.
    """
    if file.compression == "none":
        return
    if inner := _compression(head):
        raise InputError(
            f"{file.url}: is compressed twice, as {file.compression} and inside as {inner}; "
            "unpack it once"
        )
    _check_is_read(file, head)


def check_marked(file: FileRange, head: bytes) -> None:
    """Refuses UTF-16 that no byte order mark tells from other bytes.

    Args:
        file: The file, whose encoding nobody has named.
        head: The first bytes of what it unpacks to.

    Raises:
        InputError: Nearly every second byte is NUL, and none of the others.
    """
    if len(head) < _TELLING:
        return
    even, odd = head[::2].count(0), head[1::2].count(0)
    if min(even, odd) == 0 and max(even, odd) > 0.9 * (len(head) // 2):
        order = "le" if odd else "be"
        raise InputError(
            f"{file.url}: is UTF-16 without a byte order mark by its first bytes; give --encoding "
            f"utf-16-{order}"
        )


def _may_be_other_than_text(head: bytes) -> bool:
    """Tells by little work whether any of the marks of compressions and others can be there."""
    return (
        head.startswith(_BEGINNINGS)
        or head[1:4] == _REST_OF_FRAME
        or head[:1] == _OLD_XZ
        or head[_TAR] == b"ustar"
    )


def _check_is_read(file: FileRange, head: bytes) -> None:
    kind = next((name for mark, name in _NOT_READ if head.startswith(mark)), None)
    if head[_TAR] == b"ustar":
        kind = "a tar archive"
    if head.startswith(_ORC) and not _is_text(head):
        kind = "an ORC file"
    if kind:
        raise InputError(f"{file.url}: is {kind}, which is not read; unpack or convert it first")
    if head.startswith(_PARQUET):
        raise InputError(
            f"{file.url}: is a Parquet file by its content; name it .parquet, or give "
            "--format parquet"
        )


def _compression(head: bytes) -> str | None:
    found = next((name for mark, name in _COMPRESSED if head.startswith(mark)), None)
    if found == "bz2" and head[4:10] not in _BLOCK_OF_BZ2:
        return None
    if found is None and _is_old_xz(head):
        return "xz"
    if head[1:4] == _REST_OF_FRAME and 0x50 <= head[0] <= 0x5F:
        # A frame that readers pass over, as some tools put before the first one.
        return "zstd"
    return found


def _is_beginning(head: bytes, compression: str) -> bool:
    """Tells whether a file is so short that it may be the first bytes of a compressed one."""
    marks = [mark for mark, name in _COMPRESSED if name == compression]
    if compression == "bz2" and len(head) > 4:
        return any(block.startswith(head[4:]) for block in _BLOCK_OF_BZ2)
    return any(mark.startswith(head[: len(mark)]) and len(head) < _SHORTEST for mark in marks)


def _is_old_xz(head: bytes) -> bool:
    """Tells the .lzma form, which has no mark: usual settings, a dictionary and a likely size."""
    if len(head) < 14 or not head.startswith(_OLD_XZ) or head[13] != 0:
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    size = int.from_bytes(head[5:13], "little")
    usual = any(dictionary in (1 << n, 3 << (n - 1)) for n in range(12, 32))
    return usual and (size == _NO_SIZE or size < 1 << 40)


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.intersection(head)
