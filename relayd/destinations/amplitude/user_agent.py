"""What a User-Agent says of system and device, in the words that Amplitude's reports use.

Segment runs Amplitude's fork of ua-parser-js, a table of hundreds of devices. Here are the systems and browsers that
are in use, and the large makers of phones; of a device that is not in the table, the model is taken as it stands.
Differences, on purpose: "K", which every Chrome on Android says since 2023, is no model.
"""

import re
from functools import lru_cache

from msgspec import Struct


class Agent(Struct, frozen=True, gc=False):
    """None: it does not say."""

    system: str | None = None
    """Of the operating system, else of the browser."""
    browser_version: str | None = None
    """The major version."""
    maker: str | None = None
    model: str | None = None
    kind: str | None = None
    """mobile or tablet."""


def _table(*rows: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), name) for pattern, name in rows)


_SYSTEMS = _table(
    (r"windows phone", "Windows Phone"),
    (r"\bwindows|\bwin(?:9[58]|nt|32)", "Windows"),
    (r"\b(?:iphone|ipad|ipod)\b", "iOS"),
    (r"\bcros\b", "Chromium OS"),
    (r"\btizen", "Tizen"),
    (r"\bweb0?os\b", "webOS"),
    (r"\bandroid", "Android"),
    (r"\bmac(?:intosh|_powerpc| os x)", "Mac OS"),
    (r"\bubuntu", "Ubuntu"),
    (r"\bfedora", "Fedora"),
    (r"\bdebian", "Debian"),
    (r"\blinux", "Linux"),
    (r"\bfreebsd", "FreeBSD"),
)
_BROWSERS = _table(
    (r"\b(?:opr|opios|opt)/(\d+)", "Opera"),
    (r"\bopera[/ ](?:.+version/)?(\d+)", "Opera"),
    (r"\bedg(?:e|a|ios)?/(\d+)", "Edge"),
    (r"\bsamsungbrowser/(\d+)", "Samsung Browser"),
    (r"\byabrowser/(\d+)", "Yandex"),
    (r"\bucbrowser/(\d+)", "UCBrowser"),
    (r"\bvivaldi/(\d+)", "Vivaldi"),
    (r"\bfbav/(\d+)", "Facebook"),
    (r"\binstagram (\d+)", "Instagram"),
    (r"\bgsa/(\d+)", "GSA"),
    (r"\b(?:msie |trident/.+rv:)(\d+)", "IE"),
    (r"\bfxios/(\d+)", "Firefox"),
    (r"\bfirefox/(\d+)", "Firefox"),
    (r"\b(?:crios|crmo)/(\d+)", "Chrome"),
    (r"\bheadlesschrome/(\d+)", "Chrome Headless"),
    (r"; wv\).+\bchrome/(\d+)", "Chrome WebView"),
    (r"\bchrom(?:e|ium)/(\d+)", "Chrome"),
    (r"\bandroid.+version/(\d+)", "Android Browser"),
    (r"\bversion/(\d+).+mobile(?:/\w+)? ?safari", "Mobile Safari"),
    (r"\bversion/(\d+).+safari", "Safari"),
)
_MAKERS = _table(
    (r"(?:sm|gt|sch|sgh|sph|shv)-|samsung|galaxy", "Samsung"),
    (r"pixel|nexus", "Google"),
    (r"redmi|mi |poco|xiaomi|m2\d{3}|2\d{3}[a-z\d]{4,}", "Xiaomi"),
    (r"huawei|honor|(?:ane|ele|vog|mar|pot|lya|clt)-", "Huawei"),
    (r"oneplus|(?:gm|hd|in|kb|le|ac|be)\d{4}\b", "OnePlus"),
    (r"cph\d{4}|oppo", "OPPO"),
    (r"rmx\d{4}|realme", "Realme"),
    (r"vivo|v\d{4}[a-z]?\b", "Vivo"),
    (r"moto|xt\d{4}", "Motorola"),
    (r"lenovo", "Lenovo"),
    (r"lg-|lm-", "LG"),
    (r"nokia|ta-\d{4}", "Nokia"),
    (r"xq-|so-|sony", "Sony"),
    (r"asus", "ASUS"),
    (r"kf[a-z]{2,}", "Amazon"),
)
_APPLE = re.compile(r"\((ipad|iphone|ipod)", re.IGNORECASE)
_APPLE_NAMES = {"ipad": ("iPad", "tablet"), "iphone": ("iPhone", "mobile"), "ipod": ("iPod", "mobile")}
_MODEL = re.compile(
    r"\bandroid[^;)]*;(?: [a-z]{2}[-_][a-z]{2};)? ([^;)]+?)(?: build/[^;)]*)?(?:; wv)?\)", re.IGNORECASE
)
_TABLET = re.compile(r"sm-[txp]|gt-[pn]|tab\b|pad\b|\bpixel (?:c|tablet)\b|kf[a-z]{2}", re.IGNORECASE)
_MOBILE = re.compile(r"\bmobile\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def parse(text: str) -> Agent:
    """What ``text`` says. The result is remembered."""
    system = next((name for pattern, name in _SYSTEMS if pattern.search(text)), None)
    found = next(((match[1], name) for pattern, name in _BROWSERS if (match := pattern.search(text))), (None, None))
    maker, model, kind = _device(text, system)
    return Agent(system or found[1], found[0], maker, model, kind)


def _device(text: str, system: str | None) -> tuple[str | None, str | None, str | None]:
    """Maker, model and kind."""
    if system == "iOS" and (apple := _APPLE.search(text)):
        return ("Apple", *_APPLE_NAMES[apple[1].lower()])
    if system != "Android":
        return None, None, None
    said = _MODEL.search(text)
    model = said[1] if said and said[1] != "K" else None
    maker = next((name for pattern, name in _MAKERS if model and pattern.match(model)), None)
    mobile = (maker or _MOBILE.search(text)) and not (model and _TABLET.search(model))
    if model and maker and model.lower().startswith(f"{maker.lower()} "):
        model = model[len(maker) + 1 :]
    return maker, model, "mobile" if mobile else "tablet"
