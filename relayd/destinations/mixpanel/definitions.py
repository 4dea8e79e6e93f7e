"""The fields of Mixpanel's actions, as Segment's Mixpanel (Actions) names and types them."""

from relayd.actions.fields import Fields
from relayd.destinations.fields import at, boolean, first, moment, number, table, text

_UTM = {"source": "source", "medium": "medium", "campaign": "name", "term": "term", "content": "content"}
"""Parts of a campaign, and where they are in ``context.campaign``."""
_HINTS = ("mobile", "platform", "architecture", "bitness", "model", "platformVersion", "uaFullVersion", "wow64")
"""What ``navigator.userAgentData`` says of a browser; the first and the last are true or false."""
_PRODUCT_TEXTS = ("product_id", "sku", "category", "name", "brand", "variant")
_PRODUCT_NUMBERS = ("price", "quantity")

_ABOUT: Fields = {
    "distinct_id": text(first("userId", "anonymousId")),
    "anonymous_id": text(at("anonymousId")),
    "user_id": text(at("userId")),
    "group_id": text(at("context.groupId")),
    "insert_id": text(at("messageId")),
    "time": moment(at("timestamp")),
    "app_name": text(at("context.app.name")),
    "app_namespace": text(at("context.app.namespace")),
    "app_build": text(at("context.app.build")),
    "app_version": text(at("context.app.version")),
    "os_name": text(at("context.os.name")),
    "os_version": text(at("context.os.version")),
    "device_id": text(at("context.device.id")),
    "device_type": text(at("context.device.type")),
    "device_name": text(at("context.device.name")),
    "device_manufacturer": text(at("context.device.manufacturer")),
    "device_model": text(at("context.device.model")),
    "bluetooth": boolean(at("context.network.bluetooth")),
    "carrier": text(at("context.network.carrier")),
    "cellular": boolean(at("context.network.cellular")),
    "wifi": boolean(at("context.network.wifi")),
    "country": text(at("context.location.country")),
    "region": text(at("context.location.region")),
    "language": text(at("context.locale")),
    "library_name": text(at("context.library.name")),
    "library_version": text(at("context.library.version")),
    "ip": text(at("context.ip")),
    "idfa": text(first("context.device.advertisingId", "context.device.idfa")),
    "url": text(at("context.page.url")),
    "screen_width": number(at("context.screen.width")),
    "screen_height": number(at("context.screen.height")),
    "screen_density": number(at("context.screen.density")),
    "referrer": text(at("context.page.referrer")),
    "userAgent": text(at("context.userAgent")),
    "advertising_id": text(at("context.device.advertisingId")),
    "ad_tracking_enabled": text(at("context.device.adTrackingEnabled")),
    "timezone": text(at("context.timezone")),
    "app_platform": text(at("context.app.platform")),
    "name": text(first("event", "name")),
    "event_properties": table(at("properties")),
    "context": table(at("context")),
    "utm_properties": table(
        {f"utm_{name}": at(f"context.campaign.{path}") for name, path in _UTM.items()},
        properties={f"utm_{name}": text() for name in _UTM},
    ),
    "enable_batching": boolean(True),
    "batch_size": number(1000),
    "userAgentData": table(
        {name: at(f"context.userAgentData.{name}") for name in _HINTS},
        properties={name: boolean() if name in ("mobile", "wow64") else text() for name in _HINTS},
    ),
}
"""What an event and a purchase have in common."""

TRACK_EVENT: Fields = {"event": text(at("event"), required=True), **_ABOUT}

_PRODUCT: Fields = {
    **{name: text() for name in _PRODUCT_TEXTS},
    **{name: number() for name in _PRODUCT_NUMBERS},
    "coupon": text(),
    "position": number(),
    "url": text(),
    "image_url": text(),
}

TRACK_PURCHASE: Fields = {
    "generatePurchaseEventPerProduct": boolean(True),
    **_ABOUT,
    "products": table(
        {"@arrayPath": ["$.properties.products", {name: {"@path": name} for name in _PRODUCT}]},
        multiple=True,
        properties=_PRODUCT,
    ),
    "event": text(at("event"), required=True),
}

_PERSON: Fields = {
    "ip": text(at("context.ip")),
    "user_id": text(at("userId"), allowNull=True),
    "anonymous_id": text(at("anonymousId"), allowNull=True),
}

IDENTIFY_USER: Fields = {**_PERSON, "traits": table(at("traits"))}

INCREMENT_PROPERTIES: Fields = {**_PERSON, "increment": table(at("properties.increment"), required=True)}

GROUP_IDENTIFY_USER: Fields = {
    "group_key": text(),
    "group_id": text(at("groupId"), required=True),
    "traits": table(at("traits")),
}

ALIAS: Fields = {
    "alias": text(first("userId", "anonymousId"), allowNull=True),
    "distinct_id": text(at("previousId")),
}
