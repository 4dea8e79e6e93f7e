"""The subscriptions that relayd starts with; Segment has none for this destination.

Pages are page views, the events of Segment's ecommerce spec what Google calls them, and all other tracked events custom
events with their properties as parameters. `PRESETS` never sends an event twice.
"""

from collections.abc import Mapping

from relayd.destinations.action import Action, Preset, defaults
from relayd.destinations.fields import first
from relayd.destinations.google_analytics_4.definitions import items_of

_PROMOTION = items_of(
    "properties", promotion_id="promotion_id", promotion_name="name", creative_slot="creative", location_id="position"
)
"""Segment's spec describes a promotion without products: it is the item, then."""

_EVENTS = {
    "purchase": "Order Completed",
    "addToCart": "Product Added",
    "selectItem": "Product Clicked",
    "beginCheckout": "Checkout Started",
    "selectPromotion": "Promotion Clicked",
    "viewItem": "Product Viewed",
    "removeFromCart": "Product Removed",
    "viewCart": "Cart Viewed",
    "search": "Products Searched",
    "viewItemList": "Product List Viewed",
    "signUp": "Signed Up",
    "viewPromotion": "Promotion Viewed",
    "refund": "Order Refunded",
    "login": "Signed In",
    "addToWishlist": "Product Added to Wishlist",
}
_OVER: Mapping[str, Mapping[str, object]] = {
    "selectPromotion": {"items": _PROMOTION},
    "viewPromotion": {"items": _PROMOTION},
    "login": {"method": first("properties.method", "properties.type")},
    "signUp": {"method": first("properties.method", "properties.type")},
}
_PAYMENT = 'event = "Payment Info Entered"'
_HAS_PRODUCTS = "properties.products != null"  # Google requires items, Segment's spec has none in this event


def presets(actions: Mapping[str, Action]) -> tuple[Preset, ...]:
    """The presets for these actions."""
    page = defaults(
        actions["pageView"].fields,
        page_location=first("context.page.url", "properties.url"),
        page_referrer=first("context.page.referrer", "properties.referrer"),
        page_title=first("context.page.title", "properties.title"),
    )
    others = " and ".join(f'event != "{name}"' for name in _EVENTS.values())
    return (
        Preset("Page View", "pageView", 'type = "page"', page),
        *(
            Preset(
                actions[action].title,
                action,
                f'type = "track" and event = "{name}"',
                defaults(actions[action].fields, **_OVER.get(action, {})),
            )
            for action, name in _EVENTS.items()
        ),
        Preset(
            "Add Payment Info",
            "addPaymentInfo",
            f'type = "track" and {_PAYMENT} and {_HAS_PRODUCTS}',
            defaults(actions["addPaymentInfo"].fields),
        ),
        Preset(
            "Custom Event",
            "customEvent",
            f'type = "track" and {others} and !({_PAYMENT} and {_HAS_PRODUCTS})',
            defaults(actions["customEvent"].fields),
        ),
    )
