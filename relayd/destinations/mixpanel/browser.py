"""Which browser a user agent is, by the names that Mixpanel's own libraries use."""

import re
from functools import lru_cache

_REMEMBERED = 400
"""Characters of a user agent that is remembered, at most; browsers send about 120."""


def _after(sign: str) -> re.Pattern[str]:
    """A version after ``sign``: numbers with at least one full stop between them."""
    return re.compile(rf"{sign}([0-9]+(?:\.[0-9]+)+)")


_OPERA = _after("(?:Opera|OPR)/")
_BLACKBERRY = re.compile("BlackBerry|PlayBook|BB10", re.IGNORECASE)
_BLACKBERRY_VERSION = _after("BlackBerry ")
_MOBILE_EXPLORER = ("Internet Explorer Mobile", _after("rv:"))
_EXPLORER = ("Internet Explorer", _after("(?:rv:|MSIE )"))
_EDGE = ("Microsoft Edge", _after("Edge?/"))
_UC = ("UC Browser", _after("(?:UCBrowser|UCWEB)/"))
_SIGNS: tuple[tuple[str, tuple[str, re.Pattern[str] | None]], ...] = (
    ("IEMobile", _MOBILE_EXPLORER),
    ("WPDesktop", _MOBILE_EXPLORER),
    ("SamsungBrowser/", ("Samsung Internet", _after("SamsungBrowser/"))),
    ("Edge", _EDGE),
    ("Edg/", _EDGE),
    ("FBIOS", ("Facebook Mobile", None)),
    ("Chrome", ("Chrome", _after("Chrome/"))),
    ("CriOS", ("Chrome iOS", _after("CriOS/"))),
    ("UCWEB", _UC),
    ("UCBrowser", _UC),
    ("FxiOS", ("Firefox iOS", _after("FxiOS/"))),
    ("Safari", ("Safari", _after("Version/"))),
    ("Android", ("Android Mobile", None)),
    ("Konqueror", ("Konqueror", _after("Konqueror:"))),
    ("Firefox", ("Firefox", _after("Firefox/"))),
    ("MSIE", _EXPLORER),
    ("Trident/", _EXPLORER),
    ("Gecko", ("Mozilla", _after("rv:"))),
)
"""What is looked for in a user agent, in this order, and what it then is; the first that is found counts."""


def browser(user_agent: str) -> tuple[str, str | None]:
    """The browser's name, "" for an unknown one, and its version, None where it is not given with a full stop."""
    return _known(user_agent) if len(user_agent) <= _REMEMBERED else _find(user_agent)


def _find(user_agent: str) -> tuple[str, str | None]:
    name, version = _look(user_agent)
    found = version.search(user_agent) if version else None
    return name, found[1] if found else None


def _look(user_agent: str) -> tuple[str, re.Pattern[str] | None]:
    """The browser's name, and how to find its version."""
    if " OPR/" in user_agent:
        return ("Opera Mini", None) if "Mini" in user_agent else ("Opera", _OPERA)
    if _BLACKBERRY.search(user_agent):
        return "BlackBerry", _BLACKBERRY_VERSION
    for sign, (name, version) in _SIGNS:
        if sign in user_agent:
            return "Mobile Safari" if name == "Safari" and "iPhone" in user_agent else name, version
    return "", None


_known = lru_cache(maxsize=1024)(_find)
