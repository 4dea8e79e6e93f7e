"""Amplitude's User Privacy API (amplitude.com/docs/apis/analytics/user-privacy).

``POST /api/2/deletions/users`` at amplitude.com, or analytics.eu.amplitude.com, takes up to 100 ``user_ids`` a request,
under Basic with the API key and the secret key. The users are deleted within 30 days, and their new events are taken.
With ``ignore_invalid_id`` users that Amplitude does not know fail nothing.
"""

from base64 import b64encode
from collections.abc import Sequence

import msgspec

from relayd.destinations.amplitude.requests import Settings
from relayd.destinations.base import Request
from relayd.destinations.fields import JSON

MAX_USERS = 100
"""Of a request."""
_HOSTS = {"north_america": "https://amplitude.com", "europe": "https://analytics.eu.amplitude.com"}


def deletions(settings: Settings, ids: Sequence[str]) -> list[Request]:
    """The requests that delete users. Raises ``ValueError``."""
    if not settings.secret_key:
        raise ValueError("secretKey is not set, which Amplitude's deletion needs")
    credentials = b64encode(f"{settings.api_key}:{settings.secret_key}".encode()).decode()
    url = f"{_HOSTS[settings.endpoint]}/api/2/deletions/users"
    headers = JSON | {"authorization": f"Basic {credentials}"}
    return [
        Request(
            "POST",
            url,
            headers,
            msgspec.json.encode(
                {"user_ids": ids[start : start + MAX_USERS], "requester": "relayd", "ignore_invalid_id": "True"}
            ),
        )
        for start in range(0, len(ids), MAX_USERS)
    ]
