"""eCommerce recommended events: events of ``/users/track`` whose properties Braze checks against a schema.

Facts: braze.com/docs, "eCommerce recommended events". What an event carries beyond currency, source and metadata
depends on its name; what a product has besides the schema's members becomes its metadata.
"""

from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import InvalidPayload, Payload
from relayd.destinations.braze.settings import Settings
from relayd.destinations.braze.track import BATCHING_FIELDS, MODE, track_action
from relayd.destinations.braze.users import EVENT_EMAIL, EXTERNAL_ID, alias, moment, sync_mode, user_alias
from relayd.destinations.fields import Definition, at, first, number, table, text

__all__ = ["ECOMMERCE_ACTIONS"]

_VIEWED = "ecommerce.product_viewed"
_CART = "ecommerce.cart_updated"
_CHECKOUT = "ecommerce.checkout_started"
_PLACED = "ecommerce.order_placed"
_CANCELLED = "ecommerce.order_cancelled"
_REFUNDED = "ecommerce.order_refunded"

_SUMS = ("subtotal_value", "tax", "shipping")
_REBATES = ("total_discounts", "discounts")
_CARRIES = {
    _CART: ("cart_id", "action", *_SUMS),
    _CHECKOUT: ("checkout_id", "cart_id", *_SUMS),
    _PLACED: ("order_id", "cart_id", *_SUMS, *_REBATES),
    _CANCELLED: ("order_id", "cancel_reason", *_SUMS, *_REBATES),
    _REFUNDED: ("order_id", *_REBATES),
}
"""What an event of several products has besides them and their total value."""

_CURRENCIES = (
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BHD", "BIF", "BMD",
    "BND", "BOB", "BOV", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF", "CHW", "CLF", "CLP",
    "CNY", "COP", "COU", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD",
    "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR",
    "IQD", "IRR", "ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK",
    "LBP", "LKR", "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK",
    "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR",
    "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS",
    "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH",
    "UGX", "USD", "USN", "UYI", "UYU", "UYW", "UZS", "VED", "VES", "VND", "VUV", "WST", "XAD", "XAF", "XCD", "XCG",
    "XDR", "XOF", "XPF", "XSU", "XUA", "YER", "ZAR", "ZMW", "ZWG",
)  # fmt: skip
"""ISO 4217, as far as Braze takes it."""


def _if(*names: str) -> dict[str, object]:
    """Required of the events of these names."""
    return {"match": "any", "conditions": [{"fieldKey": "name", "operator": "is", "value": name} for name in names]}


def _product(**more: Definition) -> dict[str, Definition]:
    return {
        "product_id": text(required=True),
        "product_name": text(required=True),
        "variant_id": text(required=True),
        "image_url": text(format="uri"),
        "product_url": text(format="uri"),
        **more,
        "price": number(required=True),
    }


_IN_LIST: Fields = _product(quantity=number(required=True))
_SHAPE = {
    "product_id": at("product_id"),
    "product_name": at("name"),
    "variant_id": at("variant"),
    "image_url": at("image_url"),
    "product_url": at("url"),
    "quantity": at("quantity"),
    "price": at("price"),
}
OF_EVENT = {key: at(f"properties.{path['@path'][2:]}") for key, path in _SHAPE.items()}  # type: ignore[index]
"""A product whose members are the event's own properties."""

_COMMON: Fields = {
    "name": text(required=True, choices=(_VIEWED, *_CARRIES)),
    "external_id": EXTERNAL_ID,
    "user_alias": alias(required=True),
    "email": EVENT_EMAIL,
    "phone": text(first("context.traits.phone", "properties.phone"), allowNull=True),
    "braze_id": text(first("context.traits.braze_id", "properties.braze_id"), allowNull=True),
    "cancel_reason": text(at("properties.reason"), required=_if(_CANCELLED)),
    "time": text(at("timestamp"), required=True, format="date-time"),
    "checkout_id": text(at("properties.checkout_id"), required=_if(_CHECKOUT)),
    "order_id": text(at("properties.order_id"), required=_if(_PLACED, _CANCELLED, _REFUNDED)),
    "cart_id": text(at("properties.cart_id"), required=_if(_CART)),
    "total_value": number(at("properties.total"), required=_if(_CHECKOUT, _PLACED, _CANCELLED, _REFUNDED)),
    "action": text(at("properties.action"), choices=("add", "remove", "replace")),
    "subtotal_value": number(at("properties.subtotal")),
    "tax": number(at("properties.tax")),
    "shipping": number(at("properties.shipping")),
    "total_discounts": number(at("properties.discount")),
    "discounts": table(
        {"@arrayPath": ["$.properties.discount_items", {"code": at("code"), "amount": at("amount")}]},
        multiple=True,
        properties={"code": text(required=True), "amount": number(required=True)},
    ),
    "currency": text(at("properties.currency"), required=True, choices=_CURRENCIES),
    "source": text(at("properties.source"), required=True),
    "metadata": table(),
    **BATCHING_FIELDS,
    **MODE,
}
_MANY: Fields = {
    **_COMMON,
    "products": table(
        {"@arrayPath": ["$.properties.products", _SHAPE]},
        required=True,
        multiple=True,
        additionalProperties=True,
        properties=_IN_LIST,
    ),
}
_ONE: Fields = {
    **_COMMON,
    "catalog_type": text(at("properties.type"), multiple=True, choices=("price_drop", "back_in_stock")),
    "product": table(
        {key: path for key, path in OF_EVENT.items() if key != "quantity"}, required=True, properties=_product()
    ),
}


def _event(settings: Settings, payload: Payload, properties: dict[str, Any]) -> list[dict[str, Any]]:
    event: dict[str, Any] = {
        key: payload[key] for key in ("external_id", "braze_id", "email", "phone") if payload.get(key)
    }
    known = user_alias(payload)
    if known:
        event["user_alias"] = known
    if not event:
        raise InvalidPayload("one of external_id, user_alias, braze_id, email and phone is needed")
    if settings.app_id:
        event["app_id"] = settings.app_id
    event["name"] = payload["name"]
    event["time"] = moment(payload, "time")
    if sync_mode(payload, "add", "update") == "update" or known:
        event["_update_existing_only"] = True
    event["properties"] = {
        key: payload[key] for key in ("currency", "source", "metadata") if key in payload
    } | properties
    return [event]


def _many(settings: Settings, payload: Payload) -> list[dict[str, Any]]:
    carried = _CARRIES.get(payload["name"])
    if carried is None:
        raise InvalidPayload(f"{_VIEWED} is an event of one product: its action is ecommerceSingleProduct")
    properties = {key: payload[key] for key in ("total_value", *carried) if key in payload}
    return _event(settings, payload, {"products": [_listed(each) for each in payload["products"]], **properties})


def _one(settings: Settings, payload: Payload) -> list[dict[str, Any]]:
    if payload["name"] != _VIEWED:
        raise InvalidPayload(f"only {_VIEWED} is an event of one product: the action of the others is ecommerce")
    properties = dict(payload["product"])
    if "catalog_type" in payload:
        properties["type"] = payload["catalog_type"]
    return _event(settings, payload, properties)


def _listed(product: dict[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in product.items() if key in _IN_LIST}
    if len(known) == len(product):
        return known
    return known | {"metadata": {key: value for key, value in product.items() if key not in _IN_LIST}}


ECOMMERCE_ACTIONS = (
    track_action("ecommerce", "Ecommerce Event (multi product)", _MANY, "events", _many, always_batch=True),
    track_action("ecommerceSingleProduct", "Ecommerce Event (single product)", _ONE, "events", _one, always_batch=True),
)
