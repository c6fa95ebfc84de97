"""URLs without the secrets that some of them hold: what may be written down and shown."""

import re
from urllib.parse import unquote

# Also with one slash, and more than two: what was meant as a URL may hold a secret like one.
_URL = r"(?<![A-Za-z0-9])[A-Za-z0-9][A-Za-z0-9+.-]*:/+(?:(?![,;|:]+\w+:/)[^\s'\"<>])+"
_SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*:/+)(.*)", re.DOTALL)
_PUNCTUATION = ".,;:)]}"
# AWS's secrets hold slashes, and names of objects hold at-signs.
_USER_OF_S3 = re.compile(r"(s3a?)://([^/:@]+):([^@]+)@(.*)", re.DOTALL | re.IGNORECASE)
_PASSWORD_WITH_MARKS = re.compile(r"[^/?#@:\[]*:(?!\d+(?:[/?#]|$)).*@", re.DOTALL)
# What may follow a name of an object that happens to hold marks is left to the name.
_SECRET_QUERY = re.compile(
    r"\?(?:[^?]*&)?(?:[\w.%-]*(?:signature|token|secret|passw|credential)[\w.%-]*|"
    r"awsaccesskeyid|sig)=[^?]*$",
    re.IGNORECASE,
)
_SECRET_VALUE = (
    r"(?<=[?&;#])(?:[\w.%-]*(?:signature|token|secret|passw|credential|key|auth|jwt)[\w.%-]*|"
    r"sig|pwd|pw|pass|code|session)=[^&\s'\"<>)]+"
)
_IN_TEXT = re.compile(rf"(?P<url>{_URL})|{_SECRET_VALUE}", re.IGNORECASE)
_CONTAINER_IS_USER = ("abfs", "abfss", "wasb", "wasbs")
_WITHOUT_USERS = ("gs", "gcs", "az", "adl", "oci", "oss", "hf", "file", "local", "memory")
_NAMES_HAVE_MARKS = (
    "s3", "s3a", *_WITHOUT_USERS, *_CONTAINER_IS_USER, "hdfs", "sftp", "ssh", "smb",
)  # fmt: skip
_SHORTEST_SECRET = 4
_known: set[str] = set()


def public_url(url: str) -> str:
    """Returns a path or URL without what may be secret in it: user, password, query, fragment.

    Where '?' and '#' belong to names, as on object stores, only a query that names a secret goes.
    Of a scheme that nobody knows all of it goes.
    """
    start, rest = _parts(without_user(url))
    if start.endswith("://") and _scheme(start) not in _NAMES_HAVE_MARKS:
        return start + re.split(r"[?#]", rest, maxsplit=1)[0]
    return start + _SECRET_QUERY.sub("", rest) if start else rest


def without_user(url: str) -> str:
    """Returns a path or URL without a user and password; what else stands in it is a name."""
    start, rest = _parts(url)
    return start + rest[len(_user(start, rest)) :]


def takes_no_user(url: str) -> bool:
    """Whether a URL has a user or password, of which its kind of store knows nothing."""
    start, rest = _parts(url)
    return _scheme(start) in _WITHOUT_USERS and _user(start, rest) != ""


def holds_secret(url: str) -> bool:
    """Whether a URL has a user, a password, or a query that names a secret."""
    return without_user(url) != url or (
        bool(_parts(url)[0]) and re.search(_SECRET_VALUE, url, re.IGNORECASE) is not None
    )


def lower_scheme(url: str) -> str:
    """Returns a URL with its scheme in small letters, as file systems are called."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme.lower()}{mark}{rest}" if mark and scheme.isalnum() else url


def remember_secrets(url: str) -> None:
    """Lets ``without_secrets`` know what is secret in a URL, where it appears by itself."""
    _known.update(_secrets(url))


def without_secrets(text: str, *secret: str) -> str:
    """Returns a text with the URLs in it made public, and remembered secrets left out.

    Args:
        text: Such as what a library says of an error.
        secret: URLs whose secrets are looked for by themselves as well.
    """
    parts = _known.union(*map(_secrets, secret))
    for part in sorted(parts, key=lambda one: (-len(one), one)):
        text = text.replace(part, "***")
    return _IN_TEXT.sub(_public_match, text)


def s3_credentials(url: str) -> tuple[str, str] | None:
    """Returns the key and the secret in ``s3://KEY:SECRET@bucket``, if a URL has them."""
    found = _USER_OF_S3.fullmatch(url)
    return (unquote(found[2]), unquote(found[3])) if found else None


def _public_match(found: re.Match[str]) -> str:
    if not found["url"]:
        return f"{found[0].partition('=')[0]}=***"
    url = found[0].rstrip(_PUNCTUATION)
    return public_url(url) + found[0][len(url) :]


def _parts(url: str) -> tuple[str, str]:
    found = _SCHEME.match(url)
    return (found[1], found[2]) if found else ("", url)


def _scheme(start: str) -> str:
    return start.partition(":")[0].lower()


def _user(start: str, rest: str) -> str:
    """Returns ``USER:PASSWORD@`` at the beginning of what follows a scheme."""
    scheme = _scheme(start)
    if scheme in ("s3", "s3a") and (found := _USER_OF_S3.fullmatch(f"{scheme}://{rest}")):
        return f"{found[2]}:{found[3]}@"
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = place.rpartition("@")
    if not at and (long := _PASSWORD_WITH_MARKS.match(rest)):
        user, at = long[0][:-1], "@"
    if not start or not at or (scheme in _CONTAINER_IS_USER and ":" not in user):
        return ""
    return user + at


def _secrets(url: str) -> set[str]:
    start, rest = _parts(url)
    if not start:
        return set()
    user = _user(start, rest)
    kept = len(public_url(url)) - len(start)
    found = [rest[len(user) + kept :].lstrip("?#"), user[:-1], user[:-1].partition(":")[2]]
    found += [unquote(part) for part in found]
    return {one for one in found if len(one) >= _SHORTEST_SECRET}
