"""Google Analytics 4, by its Measurement Protocol: an event a request, straight from relayd.

Facts (developers.google.com/analytics/devguides/collection/protocol/ga4, pages "reference" and "sending-events"):

- ``POST /mp/collect?api_secret=S&measurement_id=M`` with ``{"client_id", "events": [{"name", "params"}]}``; for the
  stream of an app ``firebase_app_id`` and ``app_instance_id``. The secret has no other place than the URL, so this
  type's URLs are secret too.
- Every answer is 2xx, also to what is then dropped; ``/debug/mp/collect`` says why, and does not keep it. So relayd
  refuses what Google would drop where it can tell (`parameters`), and delivered means received, not kept.
- At most 25 events a request, 25 parameters an event (their names 40 characters, values 100), 25 user properties (24
  and 36), 10 own parameters an item, a body of 130 kB. Names begin with a letter, then letters, digits and underscores.
- There is no key for idempotency: an event whose answer was lost is counted twice, but for a purchase, which Google
  recognises by ``transaction_id``.
- An event may be 72 hours late. What is older is counted at another time, or not at all.
- Reports such as Realtime count a user whose event has ``engagement_time_msec`` (1 by default), and a session where a
  mapping gives ``params.session_id``.

As in Segment's destination: a value needs a currency, an item an id or a name, a selected promotion's item a promotion;
parameters are texts, numbers and truth values. Unlike it, neither an item's nor the event's currency is required where
there is no value, and a custom event has the field ``properties``, which takes any event's properties.
"""

from relayd.destinations.action import Action, ActionDestination
from relayd.destinations.base import InvalidSettings
from relayd.destinations.endpoint import check_url
from relayd.destinations.google_analytics_4 import definitions
from relayd.destinations.google_analytics_4.event import custom_event, event_action
from relayd.destinations.google_analytics_4.presets import presets
from relayd.destinations.google_analytics_4.settings import Settings

__all__ = ["GoogleAnalytics4", "Settings"]


def _on(event: str) -> str:
    return f'type = "track" and event = "{event}"'


_ACTIONS = (
    event_action("purchase", "Purchase", definitions.PURCHASE, _on("Order Completed")),
    event_action("addToCart", "Add to Cart", definitions.ONE_ITEM, _on("Product Added")),
    event_action("pageView", "Page View", definitions.PAGE_VIEW, 'type = "page"'),
    Action("customEvent", "Custom Event", definitions.CUSTOM, custom_event, trigger='type = "track"'),
    event_action("selectItem", "Select Item", definitions.SELECT_ITEM, _on("Product Clicked")),
    event_action("beginCheckout", "Begin Checkout", definitions.BEGIN_CHECKOUT, _on("Checkout Started")),
    event_action(
        "selectPromotion", "Select Promotion", definitions.SELECT_PROMOTION, _on("Promotion Clicked"), promoted=True
    ),
    event_action("viewItem", "View Item", definitions.ONE_ITEM, _on("Product Viewed")),
    event_action("removeFromCart", "Remove from Cart", definitions.ONE_ITEM, _on("Product Removed")),
    event_action("viewCart", "View Cart", definitions.MANY_ITEMS, _on("Cart Viewed")),
    event_action("search", "Search", definitions.SEARCH, _on("Products Searched")),
    event_action("viewItemList", "View Item List", definitions.VIEW_ITEM_LIST, _on("Product List Viewed")),
    event_action("signUp", "Sign Up", definitions.SIGN_UP, _on("Signed Up")),
    event_action("viewPromotion", "View Promotion", definitions.VIEW_PROMOTION, _on("Promotion Viewed")),
    event_action("addPaymentInfo", "Add Payment Info", definitions.ADD_PAYMENT_INFO, _on("Payment Info Entered")),
    event_action("refund", "Refund", definitions.REFUND, _on("Order Refunded")),
    event_action("login", "Login", definitions.LOGIN, _on("Signed In")),
    event_action("generateLead", "Generate Lead", definitions.GENERATE_LEAD, 'type = "track"'),
    event_action("addToWishlist", "Add to Wishlist", definitions.ONE_ITEM, _on("Product Added to Wishlist")),
)
_BY_NAME = {each.name: each for each in _ACTIONS}


class GoogleAnalytics4(ActionDestination[Settings]):
    """Sends events to a property of Google Analytics 4."""

    type = "google-analytics-4"
    title = "Google Analytics 4"
    names = ("Google Analytics 4 Cloud", "Actions Google Analytics 4", "Google Analytics 4")
    settings = Settings
    actions = _BY_NAME
    presets = presets(_BY_NAME)

    def check(self, settings: Settings) -> None:
        check_url("endpoint", settings.endpoint)
        if "?" in settings.endpoint:
            raise InvalidSettings("endpoint must have no query; the other settings make it")
        if not settings.measurement_id and not settings.firebase_app_id:
            raise InvalidSettings("measurementId must be set, or firebaseAppId for the stream of an app")
