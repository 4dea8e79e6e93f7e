"""Webhook: any app as a source, by a trigger and a mapping in the configuration.

A body that is an array is mapped item by item; so is the array at ``items``. An app proves itself by a secret that it
sends (``signature = "bearer"``), or by one that it signs with: the HMAC of the raw body, in hex or base64, perhaps
after ``sha256=`` as GitHub writes it. Without a secret everybody who knows the address can send.

A mapping should give a ``messageId``: without, a webhook that is sent again is kept again.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from relayd.actions.paths import parse_root_path, read
from relayd.config import model
from relayd.config.model import Section, doc
from relayd.sources import signatures
from relayd.sources.base import App, Headers
from relayd.sources.settings import MASK

_HEADERS = {"bearer": "Authorization", "sha256": "X-Signature", "sha1": "X-Signature"}


class Settings(Section, frozen=True, kw_only=True):
    """How the app proves itself, and what of a body is mapped."""

    secret: Annotated[
        str, model.secret("what the app sends or signs with; empty: everybody can send", example="a-long-secret")
    ] = ""
    signature: Annotated[
        Literal["bearer", "sha256", "sha1"],
        doc("bearer: the secret itself; sha256, sha1: an HMAC of the body in hex or base64"),
    ] = "bearer"
    header: Annotated[str, doc("where that is; empty: Authorization for bearer, else X-Signature")] = ""
    items: Annotated[
        str | None, doc("where in a body the array is whose items are mapped one by one", example="$.events")
    ] = None

    def __repr__(self) -> str:
        masked = MASK if self.secret else "''"
        return f"Settings(secret={masked}, signature={self.signature!r}, header={self.header!r}, items={self.items!r})"


class Webhook(App[Settings]):
    """Webhooks of any app."""

    app = "webhook"
    settings = Settings

    def verify(self, headers: Headers, body: bytes, now: float) -> None:
        settings = self._settings
        if not settings.secret:
            return
        header = settings.header or _HEADERS[settings.signature]
        given = headers.get(header.lower(), "")
        if settings.signature == "bearer":
            signatures.require_secret(settings.secret, given, header)
        else:
            expected = signatures.digest(settings.secret, body, settings.signature)
            signatures.require_any(expected, signatures.candidates(given), header)

    def parts(self, body: object) -> Sequence[object]:
        if self._settings.items is not None:
            body = read(body, parse_root_path(self._settings.items))
            return body if isinstance(body, list) else ()
        return body if isinstance(body, list) else (body,)
