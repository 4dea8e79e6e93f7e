"""Sends events with segment-analytics-python. Usage: segment_python.py URL WRITE_KEY PREFIX COUNT GZIP"""

import sys

from segment.analytics.client import Client

url, write_key, prefix, count, gzip = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "gzip"
errors = []
client = Client(write_key, host=url, gzip=gzip, on_error=lambda error, items: errors.append(error), upload_size=7)
for n in range(count):
    body, known = {"number": n, "text": "täxt"}, {"message_id": f"{prefix}-{n}"}
    user = f"user-{n % 5}"
    (
        lambda: client.identify(user, body, **known),
        lambda: client.track(user, "Order Completed", body, **known),
        lambda: client.page(user, "Docs", "Start", body, **known),
        lambda: client.screen(user, "Docs", "Start", body, **known),
        lambda: client.group(user, "acme", body, **known),
        lambda: client.alias(f"old-{n}", user, **known),
    )[n % 6]()
client.shutdown()
sys.exit(str(errors) if errors else 0)
