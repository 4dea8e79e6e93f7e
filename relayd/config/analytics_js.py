"""The folder that ``listener.analytics_js`` names: where the files of analytics.js are in it.

Facts (npm's @segment/analytics-next 1.84): ``dist/umd`` has ``standalone.js``, which is what web pages load, and the
``*.bundle.*.js`` that it loads in its turn. ``standalone.js`` has the text ``__WRITE_KEY__`` where the key belongs.
"""

from pathlib import Path

SCRIPT = "standalone.js"
PLACEHOLDER = b"__WRITE_KEY__"


def find(folder: str) -> Path:
    """The folder with the files: ``folder`` itself, or its ``dist/umd``. Blocks.

    Raises ``ValueError`` that says why it is neither, and what to do.
    """
    place = next((each for each in (Path(folder), Path(folder, "dist", "umd")) if (each / SCRIPT).is_file()), None)
    if place is None:
        raise ValueError(
            f"{folder} is not the npm package @segment/analytics-next, nor its dist/umd: it has no {SCRIPT}; "
            "`npm install @segment/analytics-next` puts it into node_modules/@segment/analytics-next"
        )
    try:
        script = (place / SCRIPT).read_bytes()
    except OSError as error:
        raise ValueError(f"{place / SCRIPT} can not be read: {error.strerror}") from None
    if PLACEHOLDER not in script:
        raise ValueError(f"{place / SCRIPT} has no place for a write key; is it of @segment/analytics-next?")
    return place
