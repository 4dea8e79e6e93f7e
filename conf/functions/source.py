"""A source function: it makes events of what is POSTed to /v1/sources/NAME, JSON here."""

from collections.abc import AsyncIterator, Mapping

from relayd.functions import Event, EventNotSupported, Request, ValidationError, identify, track


async def on_request(request: Request, settings: Mapping[str, object]) -> AsyncIterator[Event]:
    """Orders of a shop, as ``{"kind": "order", "id": ..., "buyer": {...}, "total": ...}``."""
    body = request.json()
    if not isinstance(body, dict) or body.get("kind") != "order":
        raise EventNotSupported("only orders become events")
    buyer = body.get("buyer")
    if not isinstance(buyer, dict):
        raise ValidationError("an order needs its buyer")
    user = str(buyer["id"])
    yield identify(user, traits={"email": buyer.get("email")}, message_id=f"buyer-{body['id']}")
    properties = {"order_id": body["id"], "total": body.get("total"), "shop": settings.get("shop")}
    yield track("Order Completed", user_id=user, properties=properties, message_id=f"order-{body['id']}")
