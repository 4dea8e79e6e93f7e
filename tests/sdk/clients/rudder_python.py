"""Sends events with rudder-sdk-python. Usage: rudder_python.py URL WRITE_KEY PREFIX COUNT"""

import sys

import rudderstack.analytics as client

url, write_key, prefix, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
errors = []
client.write_key, client.dataPlaneUrl = write_key, url
client.on_error = lambda error, items: errors.append(error)
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
