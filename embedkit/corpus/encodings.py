"""Decodes text of any encoding to UTF-8, and splits it at any kind of line end."""

import codecs
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from embedkit.config import CorpusConfig
from embedkit.corpus.compression import ByteStream, DamagedFileError, open_stream
from embedkit.corpus.contents import check_marked, check_unpacked
from embedkit.corpus.splits import FileRange

HEAD = 1 << 16
"""Bytes that tell what a file is."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BYTE_ORDER_MARKS = tuple(mark for mark, _ in _MARKS)
_UTF8 = ("utf-8", "utf-8-sig")
_UNDECODABLE = "\udcff"
_UNDECODABLE_BYTES = _UNDECODABLE.encode("utf-8", "surrogatepass")
"""Not UTF-8, so that whatever record it gets into is rejected."""

_log = logging.getLogger(__name__)


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _UNDECODABLE, error.end


codecs.register_error("embedkit.marked", _marked)


@dataclass(frozen=True)
class TextStream:
    """The content of a text file as it is read.

    Attributes:
        end: Byte behind which the range ends that is to be read; None where the stream ends there.
    """

    _stream: ByteStream
    end: int | None

    def read(self) -> bytes:
        """Returns the next piece, empty at the end.

        Raises:
            DamagedFileError: The file is damaged here.
            InputError: The file unpacks to more than it may.
        """
        return self._stream.read()


@contextmanager
def open_text(
    file: FileRange, config: CorpusConfig, start: int = 0, fetch: int | None = None
) -> Iterator[TextStream]:
    r"""Opens the content of a text file: decompressed, in UTF-8, with lines that end with ``\n``.

    What is not text in the file's encoding becomes bytes that are not UTF-8. Line ends of the old
    Macintosh, ``\r`` alone, are told from the file's beginning; a file of which whole files are
    the documents keeps them.

    Args:
        file: The file, or the range of a plain UTF-8 file; of any other the bytes before its
            ``end`` are read.
        config: Names the encoding, or leaves it to the file's mark.
        start: Where to begin, as in ``open_stream``.
        fetch: Bytes that one request to a store asks for at least.

    Raises:
        InputError: The file cannot be opened or changed since the plan.
    """
    end = None if file.compression != "none" or file.end == file.size else file.end
    with open_stream(file, config.max_decompressed_bytes, start, fetch) as opened:
        if file.start:
            # Only a file that is plain is cut into ranges.
            yield TextStream(opened, end)
            return
        stream = Peeked(opened)
        check_unpacked(file, stream.head)
        if encoding := _encoding(stream.head, file, config):
            stored = stream if end is None else _Beginning(stream, end)
            stream, end = Peeked(_Transcoded(stored, encoding)), None
        lines = file.format != "text" or config.text_unit != "file"
        returns = lines and _has_returns(stream.head)
        yield TextStream(_Returns(stream) if returns else stream, end)


def is_plain(file: FileRange, config: CorpusConfig) -> bool:
    r"""Tells whether a file without compression is UTF-8 with lines that end with ``\n``.

    Raises:
        InputError: It cannot be opened.
    """
    with open_stream(file, config.max_decompressed_bytes, fetch=HEAD) as opened:
        head = Peeked(opened).head
    return not _encoding(head, file, config) and not _has_returns(head)


def undecodable(data: bytes, error: UnicodeDecodeError) -> str:
    """Says which byte of a record is not text, and what to do about it."""
    if data.startswith(_UNDECODABLE_BYTES, error.start):
        return (
            f"what stands at {error.start} of the record is no text in the file's encoding; name "
            "another --encoding, or mend the file"
        )
    return (
        f"byte 0x{data[error.start]:02x} at {error.start} of the record is not UTF-8; name the "
        "--encoding, or convert the file to UTF-8"
    )


def _encoding(head: bytes, file: FileRange, config: CorpusConfig) -> str | None:
    """Returns what a file is to be decoded from; None where it is UTF-8 already."""
    if config.encoding != "auto":
        name = codecs.lookup(config.encoding).name
        if name in ("utf-16", "utf-32") and not head.startswith(_BYTE_ORDER_MARKS):
            width = int(name[-2:]) // 8
            # Most text has more zeros in the higher byte, whichever that is.
            high_first = head[::width].count(0) > head[width - 1 :: width].count(0)
            return f"{name}-{'be' if high_first else 'le'}"
        return None if name in _UTF8 else name
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found:
        _tell(found, file.url)
    else:
        check_marked(file, head)
    return found


_told: set[str] = set()


def _tell(encoding: str, url: str) -> None:
    """Says once in each process what was told from a mark."""
    if encoding not in _told:
        _told.add(encoding)
        _log.warning(
            "%s begins with the mark of %s and is read as that; so is every file that does",
            url,
            encoding.upper(),
        )


def _has_returns(head: bytes) -> bool:
    return b"\r" in head and b"\n" not in head


class Peeked:
    """A stream of which the beginning was looked at.

    Args:
        stream: The stream, at its beginning.

    Attributes:
        head: Its first bytes; the stream gives them all the same.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._error: DamagedFileError | None = None
        size = 0
        try:
            while size < HEAD and (piece := stream.read()):
                self._pieces.append(piece)
                size += len(piece)
        except DamagedFileError as error:
            self._error = error
        self.head = b"".join(self._pieces)[:HEAD]

    def read(self) -> bytes:
        """Returns the next piece, empty at the end.

        Raises:
            DamagedFileError: The file is damaged here.
            InputError: The file unpacks to more than it may.
        """
        if self._pieces:
            return self._pieces.popleft()
        if self._error:
            raise self._error
        return self._stream.read()


class _Beginning:
    def __init__(self, stream: ByteStream, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self) -> bytes:
        if not self._left:
            raise DamagedFileError("only its beginning is read")
        piece = self._stream.read()[: self._left]
        self._left -= len(piece)
        return piece


class _Transcoded:
    def __init__(self, stream: ByteStream, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("embedkit.marked")

    def read(self) -> bytes:
        data = b""
        while not data:
            piece = self._stream.read()
            text = self._decoder.decode(piece, final=not piece)
            data = text.encode("utf-8", "surrogatepass")
            if not piece:
                break
        return data


class _Returns:
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def read(self) -> bytes:
        return self._stream.read().replace(b"\r", b"\n")
