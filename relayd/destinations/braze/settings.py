"""Which Braze workspace, and how it is called."""

from typing import Annotated

import msgspec

from relayd.config.model import doc, secret
from relayd.destinations.base import Request
from relayd.destinations.fields import JSON
from relayd.destinations.settings import DestinationSettings

__all__ = ["Settings", "call"]


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which Braze workspace."""

    api_key: Annotated[str, secret("a REST API key with the permissions of the actions", min_length=1, example="KEY")]
    app_id: Annotated[str, doc("the app identifier that events and purchases are counted under; empty: of none")] = ""
    endpoint: Annotated[
        str, doc("the REST endpoint of the workspace's instance, such as https://rest.fra-01.braze.eu")
    ] = "https://rest.iad-01.braze.com"


def call(settings: Settings, method: str, path: str, body: object, *, batch: bool = False) -> Request:
    """A request; ``batch`` tells Braze that it carries more than one object."""
    headers = JSON | {"authorization": f"Bearer {settings.api_key}"}
    if batch:
        headers["x-braze-batch"] = "true"
    return Request(method, f"{settings.endpoint.rstrip('/')}/{path}", headers, msgspec.json.encode(body))
