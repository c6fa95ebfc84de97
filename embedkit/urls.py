"""URLs without the secrets that some of them hold: what may be written down and shown."""

import re
from urllib.parse import unquote

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_PUNCTUATION = ".,;:)]}"
_USER_OF_S3 = re.compile(r"(s3a?)://([^/:@]+):([^@]+)@(.*)", re.DOTALL)
_PASSWORD_WITH_SLASHES = re.compile(r"[^/?#@]*:(?!\d+(?:[/?#]|$))[^?#]*@")
_SECRET_QUERY = re.compile(
    r"\?[^?]*(signature|token|sig=|secret|password|passwd|credential|key)[^?]*$", re.IGNORECASE
)
_CONTAINER_IS_USER = ("abfs", "abfss", "wasb", "wasbs")
_NAMES_HAVE_MARKS = (
    "s3", "s3a", "gs", "gcs", "az", "adl", *_CONTAINER_IS_USER, "oci", "oss", "hf", "hdfs", "sftp",
    "ssh", "smb", "file", "local", "memory",
)  # fmt: skip
_SHORTEST_SECRET = 4


def public_url(url: str) -> str:
    """Returns a path or URL without what may be secret in it: user, password, query, fragment.

    Where '?' and '#' belong to names, as on object stores, only a query that names a secret goes.
    Of a scheme that nobody knows all of it goes.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    rest = rest[len(_user(scheme, rest)) :]
    if scheme.lower() not in _NAMES_HAVE_MARKS:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    else:
        rest = _SECRET_QUERY.sub("", rest)
    return f"{scheme}://{rest}"


def without_secrets(text: str, *secret: str) -> str:
    """Returns a text with the URLs in it made public.

    Args:
        text: Such as what a library says of an error.
        secret: URLs whose secrets are looked for by themselves as well.
    """
    for url in secret:
        for part in _secrets(url):
            text = text.replace(part, "***")
    return _URL.sub(_public_match, text)


def s3_credentials(url: str) -> tuple[str, str] | None:
    """Returns the key and the secret in ``s3://KEY:SECRET@bucket``, if a URL has them."""
    found = _USER_OF_S3.fullmatch(url)
    return (unquote(found[2]), unquote(found[3])) if found else None


def _public_match(found: re.Match[str]) -> str:
    url = found[0].rstrip(_PUNCTUATION)
    return public_url(url) + found[0][len(url) :]


def _user(scheme: str, rest: str) -> str:
    """Returns ``USER:PASSWORD@`` at the beginning of what follows a scheme."""
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = place.rpartition("@")
    if not at and (long := _PASSWORD_WITH_SLASHES.match(rest)):
        user, at = long[0][:-1], "@"
    if not at or (scheme in _CONTAINER_IS_USER and ":" not in user):
        return ""
    return user + at


def _secrets(url: str) -> list[str]:
    scheme, _, rest = url.partition("://")
    user = _user(scheme, rest)
    kept = len(public_url(url)) - len(f"{scheme}://")
    found = [
        rest[len(user) + kept :].lstrip("?#"),
        user.rstrip("@"),
        user.rstrip("@").partition(":")[2],
    ]
    found += [unquote(part) for part in found]
    return sorted((one for one in set(found) if len(one) >= _SHORTEST_SECRET), key=len)[::-1]
