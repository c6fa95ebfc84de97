"""Records of plain text and JSONL files."""

from collections.abc import Iterator
from typing import Any

import orjson

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, lookup, too_long
from embedkit.corpus.compression import ByteStream, DamagedFileError
from embedkit.corpus.documents import Records, excerpt
from embedkit.corpus.encodings import open_text, undecodable
from embedkit.corpus.json_values import may_be_rounded, read_exactly
from embedkit.corpus.lines import BOM, Damage, Lines, iter_lines, iter_paragraphs
from embedkit.corpus.splits import FileRange
from embedkit.errors.foreign import one_line
from embedkit.records import LineCounts, Reject


def read_text(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads the lines, paragraphs or whole of a plain text file; blank lines are no records."""
    if config.text_unit == "file":
        pieces = _whole_file(file, config)
    else:
        pieces = _units(file, config, paragraphs=config.text_unit == "paragraph")
    for piece in pieces:
        records = _begun(piece, file, config)
        if config.text_unit != "file":
            read = len(piece.lines)
            drop_blank(piece)
            records.counts += LineCounts(blank=read - len(piece.lines))
        texts = _decoded(piece, file, records)
        records.columns = dict.fromkeys(columns.text_names, texts)
        records.row_index = piece.starts
        yield records


def read_jsonl(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads the objects of a JSONL file; blank lines are no records."""
    for piece in _units(file, config):
        blank = sum(not line or line.isspace() for line in piece.lines)
        piece.counts += LineCounts(blank=blank)
        yield object_records(piece, file, config, columns)


def object_records(
    piece: Lines, file: FileRange, config: CorpusConfig, columns: Columns
) -> Records:
    """Reads pieces of JSON, each of which should be an object."""
    records = _begun(piece, file, config)
    objects = _objects(piece, file, records)
    records.columns = _keep_exact(objects, piece, columns, records)
    records.row_index, records.raw = piece.starts, piece.lines
    return records


def _begun(piece: Lines, file: FileRange, config: CorpusConfig) -> Records:
    """Returns the records of a piece as far as they are known before it is parsed."""
    return Records(
        file.source,
        rejects=_broken(piece, file, config),
        places=piece.starts[:] if piece.numbers else (),
        numbers=piece.numbers,
        counts=piece.counts,
    )


def _units(file: FileRange, config: CorpusConfig, paragraphs: bool = False) -> Iterator[Lines]:
    split = iter_paragraphs if paragraphs else iter_lines
    offset = max(file.start - 1, 0)
    with open_text(file, config, offset) as stream:
        yield from split(stream, offset, file.start, stream.end, config.max_record_bytes)


def _whole_file(file: FileRange, config: CorpusConfig) -> Iterator[Lines]:
    with open_text(file, config) as stream:
        yield read_whole(stream, config.max_record_bytes)


def read_whole(stream: ByteStream, max_bytes: int) -> Lines:
    """Reads a stream as one record, or none where it is empty."""
    pieces: list[bytes] = []
    size = 0
    damage: Damage | None = None
    try:
        while size <= max_bytes + len(BOM) and (piece := stream.read()):
            pieces.append(piece)
            size += len(piece)
    except DamagedFileError as error:
        damage = Damage(size, str(error), error.complete, number=1)
    if damage and not damage.complete:
        return Lines(damage=damage)
    text = b"".join(pieces).removeprefix(BOM)
    if len(text) > max_bytes:
        return Lines.of_long(0, text)
    return Lines([0], [text], damage=damage) if size else Lines(damage=damage)


def drop_blank(piece: Lines) -> None:
    """Leaves out lines of white space."""
    kept = [place for place, line in enumerate(piece.lines) if line and not line.isspace()]
    if len(kept) < len(piece.lines):
        piece.starts = [piece.starts[place] for place in kept]
        piece.lines = [piece.lines[place] for place in kept]
        piece.numbers = [piece.numbers[place] for place in kept] if piece.numbers else ()


def _decoded(piece: Lines, file: FileRange, records: Records) -> list[str]:
    try:
        return [line.decode() for line in piece.lines]
    except UnicodeDecodeError:
        pass
    texts, starts = [], []
    for start, line in zip(piece.starts, piece.lines, strict=True):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError as error:
            records.rejects.append(not_utf8(file.source, start, line, error))
        else:
            starts.append(start)
    piece.starts = starts
    return texts


def _objects(piece: Lines, file: FileRange, records: Records) -> list[dict[str, object]]:
    try:
        objects = [orjson.loads(line) for line in piece.lines]
    except orjson.JSONDecodeError:
        objects = []
    if len(objects) == len(piece.lines) and set(map(type, objects)) <= {dict}:
        return objects
    objects, kept = [], Lines()
    for start, line in zip(piece.starts, piece.lines, strict=True):
        if not line.strip():
            continue
        found = _object(start, line, file.source)
        if isinstance(found, Reject):
            records.rejects.append(found)
        else:
            objects.append(found)
            kept.starts.append(start)
            kept.lines.append(line)
    piece.starts, piece.lines = kept.starts, kept.lines
    return objects


def _keep_exact(
    objects: list[dict[str, object]], piece: Lines, columns: Columns, records: Records
) -> dict[str, list[Any]]:
    """Returns the columns, having read those records as they are written that may be rounded."""
    values = _columns(objects, columns)
    rounded = _rounded(values, columns)
    if not rounded:
        return values
    deep = []
    # A large record is not held twice while it is read again.
    values.clear()
    for place in rounded:
        objects[place] = {}
        try:
            objects[place] = read_exactly(piece.lines[place])
        except RecursionError:
            detail = "nested too deeply to be read; flatten it"
            shown = excerpt(piece.lines[place])
            deep.append(place)
            records.rejects.append(
                Reject(records.source, piece.starts[place], "invalid_json", detail, excerpt=shown)
            )
    for place in reversed(deep):
        del objects[place], piece.starts[place], piece.lines[place]
    return _columns(objects, columns)


def _rounded(values: dict[str, list[Any]], columns: Columns) -> list[int]:
    places: set[int] = set()
    for name, column in values.items():
        if not set(map(type, column)) <= {str, int, bool, type(None)}:
            written = name in columns.as_text
            places.update(
                place for place, value in enumerate(column) if may_be_rounded(value, written)
            )
    return sorted(places)


def _columns(objects: list[dict[str, object]], columns: Columns) -> dict[str, list[Any]]:
    return {name: [lookup(one, name) for one in objects] for name in columns.names}


def _object(start: int, line: bytes, source: str) -> dict[str, object] | Reject:
    try:
        found = _loaded(line)
    except UnicodeDecodeError as undecodable:
        return not_utf8(source, start, line, undecodable)
    except ValueError as error:
        detail = f"not JSON: {error}; a record is one JSON object"
        return Reject(source, start, "invalid_json", detail, excerpt=excerpt(line))
    if isinstance(found, dict):
        return found
    detail = f"holds a JSON {type(found).__name__}; a record is one JSON object"
    return Reject(source, start, "invalid_json", detail, excerpt=excerpt(line))


def _loaded(line: bytes) -> Any:
    """Reads one line as JSON; what only Python's parser reads, such as NaN, as that does."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            return read_exactly(line)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError):
            raise error from None


def _broken(piece: Lines, file: FileRange, config: CorpusConfig) -> list[Reject]:
    rejects = []
    if piece.long:
        detail = too_long(config.max_record_bytes)
        shown = excerpt(piece.long.head)
        number = piece.long.number or None
        rejects.append(
            Reject(file.source, piece.long.start, "too_long", detail, excerpt=shown, line=number)
        )
    if piece.damage:
        rejects.append(damaged(file, piece.damage))
    return rejects


def damaged(file: FileRange, damage: Damage) -> Reject:
    """Returns the reject that stands for all that a damaged file has lost."""
    what = one_line(damage.detail)
    kind = "" if file.compression == "none" else f"{file.compression} "
    if damage.complete:
        detail = (
            f"{what}; only garbage follows, and nothing before it is missing; cut it off, or "
            "restore the file if more data belong there, a loss of unknown size"
        )
    else:
        detail = (
            f"the {kind}data break off here ({what}), so the rest of the file is "
            "missing, a loss of unknown size; restore the file"
        )
    return Reject(file.source, damage.start, "damaged_file", detail, line=damage.number or None)


def not_utf8(source: str, start: int, data: bytes, error: UnicodeDecodeError) -> Reject:
    """Returns the reject of a record that is not UTF-8."""
    detail = undecodable(data, error)
    return Reject(source, start, "invalid_utf8", detail, excerpt=excerpt(data))
