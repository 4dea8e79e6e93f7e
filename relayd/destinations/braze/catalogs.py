"""Items of a catalog: put, or deleted.

``PUT`` and ``DELETE`` of ``/catalogs/NAME/items/ID`` take one item and are done when they answer (50 requests a
minute); those of ``/catalogs/NAME/items/`` take up to 50 and answer 202 at once (16,000 a minute). Putting replaces the
whole item, so of several of one id, which Braze does not take in one request, the last is sent.

The catalog's name is where Segment keeps it: ``onMappingSave.outputs.catalog_name`` of the mapping.
"""

import re
from collections.abc import Sequence
from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import Action, Batching, InvalidPayload, Payload
from relayd.destinations.base import Request
from relayd.destinations.braze.answers import item_verdict, item_verdicts
from relayd.destinations.braze.settings import Settings, call
from relayd.destinations.braze.users import SYNC_MODE, sync_mode
from relayd.destinations.fields import boolean, number, table, text

__all__ = ["CATALOG_ACTIONS", "MAX_ITEMS"]

MAX_ITEMS = 50
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,250}")
_UPSERT = {"match": "all", "conditions": [{"fieldKey": SYNC_MODE, "operator": "is", "value": "upsert"}]}
_HOOK = "onMappingSave"
_FIELDS: Fields = {
    "item": table(required=_UPSERT),
    "item_id": text(required=True, minimum=1, maximum=250),
    "enable_batching": boolean(True),
    "batch_size": number(MAX_ITEMS),
    _HOOK: table(properties={"outputs": table(properties={"catalog_name": text()})}),
    SYNC_MODE: text(choices=("upsert", "delete")),
}


def _catalog(payload: Payload) -> str:
    name: str = payload.get(_HOOK, {}).get("outputs", {}).get("catalog_name") or ""
    if not _NAME.fullmatch(name):
        raise InvalidPayload(f"{_HOOK}.outputs.catalog_name is missing, or is no catalog's name")
    return name


def _item(payload: Payload) -> tuple[str, dict[str, Any]]:
    """The item's id, and what is to be put there; nothing, to delete it."""
    key: str = payload["item_id"]
    if not _NAME.fullmatch(key):
        raise InvalidPayload("item_id may have letters, digits, hyphens and underscores, and nothing else")
    if sync_mode(payload, "upsert", "delete") == "delete":
        return key, {}
    if not payload.get("item"):
        raise InvalidPayload("item is missing or empty")
    return key, payload["item"]


def _method(payload: Payload) -> str:
    return "PUT" if sync_mode(payload, "upsert", "delete") == "upsert" else "DELETE"


def _perform(settings: Settings, payload: Payload, now: float) -> list[Request]:
    key, item = _item(payload)
    return [call(settings, _method(payload), f"catalogs/{_catalog(payload)}/items/{key}", {"items": [item]})]


def _perform_all(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    items = {key: {"id": key} | item for key, item in map(_item, payloads)}
    path = f"catalogs/{_catalog(payloads[0])}/items/"
    return [call(settings, _method(payloads[0]), path, {"items": list(items.values())})]


CATALOG_ACTIONS = (
    Action(
        "upsertCatalogItem",
        "Upsert Catalog Item",
        _FIELDS,
        _perform,
        Batching(_perform_all, size=MAX_ITEMS, max_size=MAX_ITEMS, keys=(_HOOK, SYNC_MODE), verdicts=item_verdicts),
        verdicts=item_verdict,
    ),
)
