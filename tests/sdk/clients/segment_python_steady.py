"""Sends events with segment-analytics-python until its stdin ends, and prints what it saw, as JSON.

Usage: segment_python_steady.py URL WRITE_KEY PREFIX
"""

import json
import sys
import threading
from typing import Any

import requests
from segment.analytics.client import Client

url, write_key, prefix = sys.argv[1:]
errors: list[str] = []
"""What the SDK tells the application, having given up."""
failures: list[str] = []
"""Requests that came to nothing, which the SDK sends again."""
send = requests.Session.send


def watched(*args: Any, **options: Any) -> requests.Response:
    """A session's ``send``, with its failures noted."""
    try:
        answer = send(*args, **options)
    except Exception as error:
        failures.append(repr(error))
        raise
    if answer.status_code != 200:
        failures.append(str(answer.status_code))
    return answer


def wait_for_end() -> None:
    """Until stdin ends."""
    sys.stdin.read()
    ended.set()


setattr(requests.Session, "send", watched)  # noqa: B010  mypy lets no method be assigned
client = Client(
    write_key,
    host=url,
    on_error=lambda error, items: errors.append(repr(error)),
    upload_size=7,
    upload_interval=0.02,
    thread=2,
)
ended = threading.Event()
threading.Thread(target=wait_for_end, daemon=True).start()
count = 0
while not ended.wait(0.005):
    client.track(f"user-{count % 5}", "Order Completed", {"number": count}, message_id=f"{prefix}-{count}")
    count += 1
client.shutdown()
print(json.dumps({"sent": count, "errors": errors, "failures": failures}))
