"""Numbers as a report writes them, and texts of strangers made fit to be shown."""

import math
import re
import unicodedata

_UNITS = ("kB", "MB", "GB", "TB", "PB")
_SAYS_NOTHING = frozenset({"model", "models", "export", "final", "best", "latest", "0_Transformer"})
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def count(number: float) -> str:
    """Writes a whole number with thousands separators."""
    return f"{round(number):,}"


def noun(number: int, singular: str, plural: str | None = None) -> str:
    """Writes a number with its noun, such as ``1 row`` and ``2,000 rows``."""
    return f"{count(number)} {singular if number == 1 else plural or singular + 's'}"


def percent(share: float) -> str:
    """Writes a share with two significant digits; only 0 is ``0 %`` and only 1 is ``100 %``."""
    value = 100 * share
    if value == 0 or value == 100:
        return f"{value:.0f} %"
    if value < 0.01:
        return "< 0.01 %"
    if 99 < value < 100:
        return f"{min(value, 99.99):.2f} %"
    rounded = float(f"{value:.2g}")
    digits = max(0, 1 - math.floor(math.log10(rounded)))
    return f"{rounded:.{digits}f} %"


def significant(number: float, digits: int = 4) -> str:
    """Writes a measured number with some significant digits and no needless exponent."""
    if number == 0 or 1e-4 <= abs(number) < 10**digits:
        return f"{number:.{digits}g}"
    return count(number) if abs(number) >= 10**digits else f"{number:.2g}"


def size(number: float) -> str:
    """Writes a number of bytes in units of a thousand."""
    if number < 1000:
        return noun(round(number), "byte")
    unit = 0
    number /= 1000
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number /= 1000
        unit += 1
    return f"{number:.3g} {_UNITS[unit]}" if number < 999.5 else f"{count(number)} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Writes a time in its two largest units."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{count(whole // 3600)} h {whole % 3600 // 60} min"


def model_name(model: str) -> str:
    """Names a model in a few words: a hub id as it is, a directory by its name.

    Args:
        model: A hub id, or the path of a directory, perhaps one of a hub's cache.
    """
    parts = [part for part in model.rstrip("/").split("/") if part]
    if "snapshots" in parts[1:]:
        cached = parts[parts.index("snapshots") - 1]
        return cached.removeprefix("models--").replace("--", "/")
    if not parts or (len(parts) == 2 and not model.startswith((".", "/", "~"))):
        return model
    return "/".join(parts[-2:]) if parts[-1] in _SAYS_NOTHING else parts[-1]


def dataset_name(root: str) -> str:
    """Names a dataset by the last folder of its root, which may be a URL."""
    return root.rstrip("/").rpartition("/")[2] or root


def plain(text: str, most: int = 300) -> str:
    """Makes a stranger's text fit to be shown in one place of a page.

    Control characters, line separators and lone surrogates, which a page must not or cannot hold,
    become visible signs; white space runs become one space; what is too long ends in an ellipsis.

    Args:
        text: Any text.
        most: Characters to keep.
    """
    spaced = re.sub(r"[ \t\r\n\f\v]+", " ", text[: 4 * most]).strip(" ")
    shown = _UNSHOWN.sub(_visible, spaced)
    if len(shown) <= most and len(text) <= 4 * most:
        return shown
    return _whole_characters(shown[: most - 1].rstrip()) + "\u2026"


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _whole_characters(text: str) -> str:
    """Drops a joiner that was cut off from what it joined."""
    while text and unicodedata.category(text[-1]) in ("Cf", "Cs"):
        text = text[:-1]
    return text
