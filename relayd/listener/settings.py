"""What SDKs ask for before they send: ``GET /v1/projects/{writeKey}/settings``.

analytics.js sends nothing at all without it, and sends to Segment when ``Segment.io`` is missing in it. Its metrics
would go to Segment too, so their sample rate is 0.
"""

import msgspec

from relayd.listener.message import Request
from relayd.listener.origin import Proxies


def settings(write_key: str, request: Request, proxies: Proxies) -> bytes:
    """The settings of a source, as JSON: everything goes to the host that the SDK asked."""
    return msgspec.json.encode(
        {
            "integrations": {
                "Segment.io": {
                    "apiKey": write_key,
                    "apiHost": f"{request.headers.get('host', 'localhost')}/v1",
                    "protocol": proxies.scheme(request),
                    "deliveryStrategy": {},
                }
            },
            "metrics": {"sampleRate": 0},
            "plan": {},
            "edgeFunction": {},
        }
    )
