"""The subscriptions that Braze comes with: Segment's, but for those of its audiences and journeys."""

from relayd.destinations.action import Action, Preset, defaults
from relayd.destinations.braze.ecommerce import OF_EVENT
from relayd.destinations.fields import at

__all__ = ["presets"]

_STATUS = {"metadata": {"order_status_url": at("properties.order_status_url")}}
_SHOP: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("Order Placed", "Order Completed", {"name": "ecommerce.order_placed", **_STATUS}),
    (
        "Checkout Started",
        "Checkout Started",
        {"name": "ecommerce.checkout_started", "metadata": {"checkout_url": at("properties.checkout_url")}},
    ),
    ("Order Refunded", "Order Refunded", {"name": "ecommerce.order_refunded", **_STATUS}),
    ("Order Cancelled", "Order Cancelled", {"name": "ecommerce.order_cancelled", **_STATUS}),
    ("Product Viewed", "Product Viewed", {"name": "ecommerce.product_viewed"}),
    ("Product Added", "Product Added", {"name": "ecommerce.cart_updated", "products": [OF_EVENT], "action": "add"}),
    (
        "Product Removed",
        "Product Removed",
        {"name": "ecommerce.cart_updated", "products": [OF_EVENT], "action": "remove"},
    ),
)
"""A title, the event, and what the mapping has besides the defaults."""


def presets(actions: dict[str, Action]) -> tuple[Preset, ...]:
    others = " and ".join(f'event != "{event}"' for _, event, _ in _SHOP)
    track, identify = actions["trackEvent"], actions["updateUserProfile"]
    return (
        Preset("Track Calls", track.name, f'type = "track" and {others}'),
        *(_shop(actions, title, event, more) for title, event, more in _SHOP),
        Preset("Identify Calls", identify.name, identify.trigger),
    )


def _shop(actions: dict[str, Action], title: str, event: str, more: dict[str, object]) -> Preset:
    action = actions["ecommerceSingleProduct" if event == "Product Viewed" else "ecommerce"]
    return Preset(f"{title} (beta)", action.name, f'event = "{event}"', defaults(action.fields, **more))
