"""A URL that a destination calls: what makes it one that can be called, and safe to print."""

import re
from urllib.parse import urlsplit

from relayd import __version__
from relayd.destinations.base import InvalidSettings

USER_AGENT = f"relayd/{__version__}"

_VISIBLE = re.compile(r"[!-~]+")


def check_url(setting: str, url: str) -> None:
    """Raise `InvalidSettings` unless ``url`` is an absolute http or https URL without credentials.

    Credentials in a URL would reach logs and pages, which print URLs. For the same reason no message quotes it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidSettings(f"{setting} is not a URL: {error}") from None
    if not _VISIBLE.fullmatch(url):
        raise InvalidSettings(f"{setting} has spaces or non-ASCII characters; percent-encode them")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidSettings(f"{setting} must be http://HOST... or https://HOST...")
    if "@" in parts.netloc:
        raise InvalidSettings(f"{setting} must not hold a user name or password; send them in a header")
    if "#" in url:
        raise InvalidSettings(f"{setting} must not have a #fragment; it is never sent")
