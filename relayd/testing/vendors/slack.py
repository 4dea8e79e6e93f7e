"""Slack's incoming webhooks (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).

Not verified: the texts for a wrong method and a wrong content type, and the JSON of a 429.
"""

from collections.abc import Collection

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer

_TEXT = (("Content-Type", "text/html"),)


class Slack(Vendor):
    """A workspace with one webhook. ``accepted`` has the messages that were posted."""

    def __init__(
        self, path: str = "/services/T0/B0/XXX", *, channels: Collection[str] = ("general",), archived: str = "old"
    ) -> None:
        super().__init__()
        self.path = path
        self.channels = {*channels, archived}
        self.archived = archived
        self.retry_after = 0
        """Seconds: when there are any, the next request is one too many."""

    def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return _word(405, "method_not_allowed")
        if request.path != self.path:
            return _word(404, "no_service")
        if self.retry_after:
            limited = json_answer(429, {"ok": False, "error": "rate_limited"})
            limited.headers = (*limited.headers, ("Retry-After", str(self.retry_after)))
            self.retry_after = 0
            return limited
        if not request.headers.get("content-type", "").startswith("application/json"):
            return _word(400, "invalid_payload")
        try:
            message = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return _word(400, "invalid_payload")
        if not isinstance(message, dict):
            return _word(400, "invalid_payload")
        if not message.get("text"):
            return _word(400, "no_text")
        channel = message.get("channel", "general").removeprefix("#")
        if channel not in self.channels:
            return _word(404, "channel_not_found")
        if channel == self.archived:
            return _word(410, "channel_is_archived")
        self.accepted.append(message)
        return _word(200, "ok")


def _word(status: int, word: str) -> Response:
    return Response(status, word.encode(), _TEXT)
