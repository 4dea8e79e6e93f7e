"""Events for tests."""

import msgspec


def line(number: int, **fields: object) -> bytes:
    """A journal line; its messageId is ``id-NUMBER``."""
    event = {
        "type": "track",
        "messageId": f"id-{number}",
        "userId": f"user-{number % 7}",
        "event": "Order Completed",
        "properties": {"number": number, "text": "täxt"},
        "timestamp": "2026-11-24T10:00:00.000Z",
        "receivedAt": "2026-11-24T10:00:00.000Z",
        "projectId": "web",
    }
    return msgspec.json.encode(event | fields) + b"\n"
