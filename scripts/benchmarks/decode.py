"""The yardstick of a replay's scan: the archive's files inflated, and each line decoded to a dict. Nothing else.

python -m benchmarks.decode FOLDER       prints {"events": N, "seconds": S}
"""

import sys
import time
from pathlib import Path

import msgspec
from pyzstd import ZstdFile


class Decoded(msgspec.Struct):
    """What was read."""

    events: int
    seconds: float


def decode(folder: Path) -> Decoded:
    """Read all archived logs below ``folder``."""
    decode = msgspec.json.Decoder(dict).decode
    events, start = 0, time.perf_counter()
    for path in sorted(folder.rglob("*.jsonl.zst")):
        with ZstdFile(path) as file:
            rest = b""
            while data := file.read(2**20):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    decode(line)
                events += len(lines)
    return Decoded(events, time.perf_counter() - start)


if __name__ == "__main__":
    print(msgspec.json.encode(decode(Path(sys.argv[1]))).decode())
