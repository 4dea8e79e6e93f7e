"""Sends events of all six types to a relay with Segment's Python SDK. Usage: sample_events.py URL WRITE_KEY COUNT"""

import sys

from segment.analytics.client import Client


def main() -> None:
    """Send, flush, and fail when the SDK reports an error."""
    url, write_key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    errors: list[Exception] = []
    client = Client(write_key, host=url, on_error=lambda error, items: errors.append(error), gzip=True)
    for number in range(count):
        user = f"user-{number % 100}"
        match number % 6:
            case 0:
                client.identify(user, {"plan": "pro", "number": number})
            case 1:
                client.track(user, "Order Completed", {"total": number / 10, "currency": "EUR"})
            case 2:
                client.page(user, "Docs", "Quickstart", {"path": "/quickstart"})
            case 3:
                client.screen(user, "App", "Home", {"number": number})
            case 4:
                client.group(user, f"company-{number % 10}", {"name": "Acme"})
            case 5:
                client.alias(f"anonymous-{number}", user)
    client.shutdown()
    if errors:
        sys.exit(f"the SDK reports: {errors[0]}")


if __name__ == "__main__":
    main()
