"""Braze's REST API (braze.com/docs/api): users, catalogs and messages.

Not documented, and chosen here: the answers to a wrong method, path and content type; the texts of most errors; that a
request is fatal when every object of it is wrong; the bytes of a request. Braze is not said to drop what comes twice,
so neither does this.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer, names

MAX_OBJECTS = 75
MAX_ITEMS = 50
MAX_DELETED = 50
MAX_BYTES = 4_000_000
ARRAYS = ("attributes", "events", "purchases")
SHOP = {
    "ecommerce.product_viewed": {"product_id", "product_name", "variant_id", "price"},
    "ecommerce.cart_updated": {"cart_id", "products"},
    "ecommerce.checkout_started": {"checkout_id", "total_value", "products"},
    "ecommerce.order_placed": {"order_id", "total_value", "products"},
    "ecommerce.order_cancelled": {"order_id", "total_value", "products", "cancel_reason"},
    "ecommerce.order_refunded": {"order_id", "total_value", "products"},
}
"""What the recommended events must have, besides currency and source."""
_PRODUCT = {"product_id", "product_name", "variant_id", "quantity", "price"}
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:?[0-9]{2})")
_ITEM = re.compile(r"/catalogs/([a-zA-Z0-9_-]+)/items/?([a-zA-Z0-9_-]*)")
_NOBODY = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"


class Braze(Vendor):
    """One workspace. ``accepted`` has objects, aliases and messages as they came; ``catalogs`` has the items."""

    def __init__(
        self,
        api_key: str = "BK",
        *,
        catalogs: Mapping[str, Collection[str]] | None = None,
        allowed: int | None = None,
    ) -> None:
        """``catalogs``: the fields of each. ``allowed``: as many requests are answered, then it is 429."""
        super().__init__()
        self.api_key = api_key
        self.allowed = allowed
        self.catalogs: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in catalogs or {}}
        self.batches = 0
        """Requests that were said to carry more than one object."""
        self._fields = {name: {"id", *fields} for name, fields in (catalogs or {}).items()}

    def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return json_answer(401, {"message": "Invalid API Key"})
        if self.allowed is not None:
            if not self.allowed:
                return _throttled()
            self.allowed -= 1
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return json_answer(400, {"message": "the Content-Type header must be application/json"})
        if len(request.body) > MAX_BYTES:
            return json_answer(413, {"message": "Request Entity Too Large"})
        try:
            body = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            return json_answer(400, {"message": "the request body is not a JSON object"})
        self.batches += request.headers.get("x-braze-batch") == "true"
        if found := _ITEM.fullmatch(request.path):
            return self._items(request.method, found[1], found[2], body)
        if request.method != "POST":
            return json_answer(404, {"message": "Invalid Request URI"})
        match request.path:
            case "/users/track":
                return self._track(body)
            case "/users/delete":
                if not names(body.get("external_ids"), MAX_DELETED):
                    return json_answer(400, {"message": "external_ids must be 1 to 50 strings"})
                self.deleted += body["external_ids"]
                return json_answer(201, {"deleted": len(body["external_ids"]), "message": "success"})
            case "/users/identify":
                return self._identify(body)
            case "/users/alias/new":
                return self._new_aliases(body)
            case "/campaigns/trigger/send":
                return self._send(body, "campaign_id")
            case "/canvas/trigger/send":
                return self._send(body, "canvas_id")
        return json_answer(404, {"message": "Invalid Request URI"})

    def _track(self, body: dict[str, Any]) -> Response:
        arrays = {name: body[name] for name in ARRAYS if name in body}
        if not all(isinstance(array, list) for array in arrays.values()):
            return json_answer(400, {"message": "'attributes', 'events' and 'purchases' must be arrays"})
        count = sum(map(len, arrays.values()))
        if count > MAX_OBJECTS:
            return json_answer(400, {"message": f"at most {MAX_OBJECTS} objects are allowed per request"})
        errors = []
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in arrays}
        for name, array in arrays.items():
            for index, each in enumerate(array):
                fault = _user_fault(each) or _FAULTS[name](each)
                if fault:
                    errors.append({"type": fault, "input_array": name, "index": index})
                else:
                    taken[name].append(each)
        if not any(taken.values()):
            message = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
            return json_answer(400, {"message": message, **({"errors": errors} if errors else {})})
        self.accepted += [each for array in taken.values() for each in array]
        processed = {f"{name}_processed": len(array) for name, array in taken.items() if array}
        return json_answer(201, {"message": "success", **processed, **({"errors": errors} if errors else {})})

    def _identify(self, body: dict[str, Any]) -> Response:
        aliases, emails = body.get("aliases_to_identify", []), body.get("emails_to_identify", [])
        if not aliases and not emails:
            return json_answer(400, {"message": "'aliases_to_identify' or 'emails_to_identify' is required"})
        if body.get("merge_behavior", "merge") not in ("none", "merge"):
            return json_answer(400, {"message": "'merge_behavior' must be 'none' or 'merge'"})
        wrong = [
            {"type": "'external_id' and a complete 'user_alias' are required", "input_array": "aliases", "index": index}
            for index, each in enumerate(aliases)
            if not each.get("external_id") or not _is_alias(each.get("user_alias"))
        ] + [
            {"type": "'email' and 'prioritization' are required", "input_array": "emails", "index": index}
            for index, each in enumerate(emails)
            if not each.get("external_id") or not each.get("email") or not each.get("prioritization")
        ]
        if not wrong:
            self.accepted += [*aliases, *emails]
        return json_answer(
            201, {"message": "success", "aliases_processed": len(aliases), **({"errors": wrong} if wrong else {})}
        )

    def _new_aliases(self, body: dict[str, Any]) -> Response:
        aliases = body.get("user_aliases")
        if not isinstance(aliases, list) or not 0 < len(aliases) <= 50:
            return json_answer(400, {"message": "'user_aliases' must have 1 to 50 aliases"})
        wrong = [
            {"type": "'alias_name' and 'alias_label' are required", "input_array": "user_aliases", "index": index}
            for index, each in enumerate(aliases)
            if not _is_alias(each)
        ]
        if not wrong:
            self.accepted += aliases
        return json_answer(201, {"message": "success", **({"errors": wrong} if wrong else {})})

    def _send(self, body: dict[str, Any], key: str) -> Response:
        recipients = body.get("recipients", [])
        if not body.get(key):
            return json_answer(400, {"message": f"'{key}' is required"})
        if bool(recipients) == bool(body.get("broadcast")):
            return json_answer(400, {"message": "'broadcast' or 'recipients' is required, and not both"})
        for each in recipients:
            known = [name for name in ("external_user_id", "user_alias", "email") if each.get(name)]
            if not known:
                return json_answer(400, {"message": "a recipient must have an identifier"})
            if known == ["email"] and not each.get("prioritization"):
                return json_answer(400, {"message": "'prioritization' is required with 'email'"})
        self.accepted.append(body)
        return json_answer(201, {"dispatch_id": f"{len(self.accepted):032x}", "message": "success"})

    def _items(self, method: str, catalog: str, key: str, body: dict[str, Any]) -> Response:
        if method not in ("PUT", "DELETE"):
            return json_answer(404, {"message": "Invalid Request URI"})
        kept = self.catalogs.get(catalog)
        if kept is None:
            return _catalog_error(404, "catalog-not-found", "Could not find catalog", ["catalog_name"], [catalog])
        items = body.get("items")
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            return _catalog_error(400, "item-array-invalid", "'items' must be an array of objects")
        if len(items) > (1 if key else MAX_ITEMS):
            return _catalog_error(400, "request-includes-too-many-items", "There are too many items")
        if key and any("id" in item for item in items):
            return _catalog_error(400, "id-in-body", "The item must not have an id")
        if key and method == "DELETE" and key not in kept:
            return _catalog_error(404, "item-not-found", "Could not find item", ["item_id"], [key])
        ids = [key] if key else [item.get("id") for item in items]
        if fault := self._items_fault(catalog, ids, items):
            return fault
        for name, item in zip(ids, items, strict=True):
            if method == "PUT":
                kept[name] = {member: value for member, value in item.items() if member != "id"}
            else:
                kept.pop(name, None)
        self.accepted += items
        return json_answer(200 if key else 202, {"message": "success"})

    def _items_fault(self, catalog: str, ids: list[Any], items: list[dict[str, Any]]) -> Response | None:
        if not all(isinstance(name, str) and name for name in ids):
            return _catalog_error(400, "items-missing-ids", "There are items that do not have ids")
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            return _catalog_error(400, "ids-not-unique", "The ids are not unique", ["id"], twice)
        if bad := [name for name, item in zip(ids, items, strict=True) if item.keys() - self._fields[catalog]]:
            message = "Some of the fields given do not exist in the catalog"
            return _catalog_error(400, "invalid-fields", message, ["id"], bad)
        return None


def _user_fault(each: object) -> str:
    if not isinstance(each, dict):
        return "the object is not an object"
    known = any(each.get(name) for name in ("external_id", "braze_id", "email", "phone"))
    return "" if known or _is_alias(each.get("user_alias")) else _NOBODY


def _event_fault(event: dict[str, Any]) -> str:
    if not isinstance(event.get("name"), str) or not event["name"]:
        return "'name' is required"
    if not _is_time(event.get("time")):
        return "'time' is required in ISO 8601"
    properties = event.get("properties", {})
    if not isinstance(properties, dict):
        return "'properties' must be an object"
    asked = SHOP.get(event["name"])
    if asked is None:
        return ""
    if missing := sorted((asked | {"currency", "source"}) - properties.keys()):
        return f"'properties' has no {', '.join(missing)}"
    products = properties.get("products", [])
    if any(not isinstance(each, dict) or _PRODUCT - each.keys() for each in products):
        return "'products' has an incomplete product"
    return ""


def _purchase_fault(purchase: dict[str, Any]) -> str:
    if not isinstance(purchase.get("product_id"), str) or not purchase["product_id"]:
        return "'product_id' is required"
    if not isinstance(purchase.get("currency"), str) or len(purchase["currency"]) != 3:
        return "'currency' must be an ISO 4217 code"
    price, quantity = purchase.get("price"), purchase.get("quantity", 1)
    if isinstance(price, bool) or not isinstance(price, int | float):
        return "'price' is required"
    if type(quantity) is not int or not 1 <= quantity <= 100:
        return "'quantity' must be an integer from 1 to 100"
    return "" if _is_time(purchase.get("time")) else "'time' is required in ISO 8601"


def _attributes_fault(profile: dict[str, Any]) -> str:
    if profile.get("gender") not in (None, "M", "F", "O", "N", "P"):
        return "'gender' is invalid"
    if profile.get("email_subscribe", "subscribed") not in ("opted_in", "subscribed", "unsubscribed"):
        return "'email_subscribe' is invalid"
    times = ("date_of_first_session", "date_of_last_session", "marked_email_as_spam_at")
    wrong = [name for name in times if profile.get(name) is not None and not _is_time(profile[name])]
    return f"'{wrong[0]}' must be in ISO 8601" if wrong else ""


_FAULTS = {"attributes": _attributes_fault, "events": _event_fault, "purchases": _purchase_fault}


def _is_time(value: object) -> bool:
    return isinstance(value, str) and _ISO.fullmatch(value) is not None


def _is_alias(value: object) -> bool:
    return isinstance(value, dict) and bool(value.get("alias_name")) and bool(value.get("alias_label"))


def _throttled() -> Response:
    answer = json_answer(429, {"message": "Your account has exceeded its hourly API rate limit"})
    limits = (("X-RateLimit-Limit", "3000"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1764000003"))
    return Response(answer.status, answer.body, (*answer.headers, *limits))


def _catalog_error(
    status: int, key: str, message: str, parameters: list[str] | None = None, values: list[str] | None = None
) -> Response:
    error = {"id": key, "message": message, "parameters": parameters or [], "parameter_values": values or []}
    return json_answer(status, {"errors": [error], "message": "Invalid Request"})
