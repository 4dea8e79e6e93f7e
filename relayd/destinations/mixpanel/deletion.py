"""Mixpanel's GDPR API, version 3 (developer.mixpanel.com/reference/gdpr-api).

``POST /api/app/data-deletions/v3.0/?token=TOKEN`` takes up to 2,000 ``distinct_ids``, under an OAuth token for the GDPR
API, which a project's owner makes and which lasts a year. One request a second. Not verified: the hosts of the regions.
"""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from relayd.destinations.base import Request
from relayd.destinations.fields import JSON
from relayd.destinations.mixpanel.settings import Settings

MAX_USERS = 2000
"""Of a request."""
_HOSTS = {"US": "https://mixpanel.com", "EU": "https://eu.mixpanel.com", "IN": "https://in.mixpanel.com"}


def deletions(settings: Settings, ids: Sequence[str]) -> list[Request]:
    """The requests that delete users, their events and profiles. Raises ``ValueError``."""
    if not settings.gdpr_token:
        raise ValueError("gdprToken is not set, which Mixpanel's deletion needs")
    host = _HOSTS[settings.api_region[:2]]
    url = f"{host}/api/app/data-deletions/v3.0/?token={quote(settings.project_token, safe='')}"
    headers = JSON | {"authorization": f"Bearer {settings.gdpr_token}"}
    return [
        Request(
            "POST",
            url,
            headers,
            msgspec.json.encode({"distinct_ids": ids[start : start + MAX_USERS], "compliance_type": "GDPR"}),
        )
        for start in range(0, len(ids), MAX_USERS)
    ]
