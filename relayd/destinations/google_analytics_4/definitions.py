"""The fields of the actions. What an action has besides the shared ones are parameters of its event, by their names."""

from relayd.actions.fields import Fields
from relayd.destinations.fields import Definition, at, boolean, first, integer, number, table, text

_ITEM: dict[str, Definition] = {
    **{name: text() for name in (
        "item_id", "item_name", "affiliation", "coupon", "currency", "item_brand", "item_category", "item_category2",
        "item_category3", "item_category4", "item_category5", "item_list_id", "item_list_name", "item_variant",
        "location_id",
    )},
    **{name: number() for name in ("discount", "index", "price")},
    "quantity": integer(),
}  # fmt: skip
_PROMOTED = {**_ITEM, **{name: text() for name in ("creative_name", "creative_slot", "promotion_name", "promotion_id")}}

_PRODUCT = {
    "item_id": "product_id", "item_name": "name", "affiliation": "affiliation", "coupon": "coupon",
    "item_brand": "brand", "item_category": "category", "item_variant": "variant", "price": "price",
    "quantity": "quantity",
}  # fmt: skip


def items_of(path: str, **more: str) -> dict[str, object]:
    """The directive that makes items of Segment's products: of one, or of many; ``more`` are other members."""
    shape = {name: at(key) for name, key in {**_PRODUCT, **more}.items()}
    return {"@arrayPath": [f"$.{path}", shape]}


_ONE = items_of("properties")
_MANY = items_of("properties.products", index="position")


def _items(default: object, *, required: bool = True, properties: dict[str, Definition] = _ITEM) -> Definition:
    return table(default, multiple=True, required=required, properties=properties)


_IDENTITY: Fields = {
    "data_stream_type": text("Web", choices=("Web", "Mobile App")),
    "app_instance_id": text(),
    "user_id": text(),
    "timestamp_micros": text(at("timestamp")),
}
_CLIENT = text(first("userId", "anonymousId"))
_REST: Fields = {
    "user_properties": table(),
    "engagement_time_msec": number(1),
    "params": table(),
    "ad_user_data_consent": text(choices=("GRANTED", "DENIED")),
    "ad_personalization_consent": text(choices=("GRANTED", "DENIED")),
}
SHARED = frozenset({*_IDENTITY, *_REST, "client_id", "clientId"})
"""Fields that are no parameters, or that are handled on their own."""

_MONEY: Fields = {"currency": text(at("properties.currency")), "value": number(at("properties.value"))}
_TOTAL = number(at("properties.total"))
_COUPON = text(at("properties.coupon"))
_AFFILIATION = text(at("properties.affiliation"))
_SHIPPING = number(at("properties.shipping"))
_TRANSACTION = text(at("properties.order_id"), required=True)
_PROMOTION: Fields = {
    "creative_name": text(),
    "creative_slot": text(at("properties.creative")),
    "location_id": text(),
    "promotion_id": text(at("properties.promotion_id")),
    "promotion_name": text(at("properties.name")),
}


def _with_client(own: Fields) -> Fields:
    return {**_IDENTITY, "client_id": _CLIENT, **own, **_REST}


PURCHASE = _with_client(
    {
        "affiliation": _AFFILIATION,
        "coupon": _COUPON,
        "currency": text(at("properties.currency"), required=True),
        "items": _items(_MANY),
        "transaction_id": _TRANSACTION,
        "shipping": _SHIPPING,
        "tax": number(at("properties.tax")),
        "value": _TOTAL,
    }
)
REFUND = _with_client(
    {
        **_MONEY,
        "transaction_id": _TRANSACTION,
        "value": _TOTAL,
        "affiliation": _AFFILIATION,
        "coupon": text(),
        "shipping": _SHIPPING,
        "tax": number(),
        "items": _items(_MANY, required=False),
    }
)
ONE_ITEM = _with_client({**_MONEY, "items": _items(_ONE)})
MANY_ITEMS = _with_client({**_MONEY, "items": _items(_MANY)})
BEGIN_CHECKOUT = _with_client({**_MONEY, "coupon": _COUPON, "items": _items(_MANY)})
ADD_PAYMENT_INFO = _with_client(
    {
        **_MONEY,
        "coupon": text(),
        "payment_type": text(at("properties.payment_method")),
        "items": _items(_MANY),
    }
)
SELECT_ITEM = _with_client({"item_list_name": text(), "item_list_id": text(), "items": _items(_ONE)})
VIEW_ITEM_LIST = _with_client(
    {
        "item_list_id": text(at("properties.list_id")),
        "item_list_name": text(at("properties.category")),
        "items": _items(_MANY),
    }
)
SELECT_PROMOTION = _with_client({**_PROMOTION, "items": _items(_ONE, required=False, properties=_PROMOTED)})
VIEW_PROMOTION = _with_client(
    {
        **_PROMOTION,
        "location_id": text(at("properties.position")),
        "items": _items(_ONE, properties=_PROMOTED),
    }
)
SEARCH = _with_client({"search_term": text(at("properties.query"), required=True)})
SIGN_UP = _with_client({"method": text(at("properties.type"))})
LOGIN = _with_client({"method": text()})
GENERATE_LEAD = _with_client(_MONEY)
PAGE_VIEW: Fields = {
    **_IDENTITY,
    "clientId": _CLIENT,
    "page_location": text(at("context.page.url")),
    "page_referrer": text(at("context.page.referrer")),
    "page_title": text(at("context.page.title")),
    **_REST,
}
CUSTOM: Fields = {
    **_IDENTITY,
    "clientId": _CLIENT,
    "name": text(at("event"), required=True),
    "lowercase": boolean(False),
    **_REST,
    "properties": table(at("properties")),  # relayd's own: see `parameters.fit`
}
