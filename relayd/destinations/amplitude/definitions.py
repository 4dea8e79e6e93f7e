"""What Amplitude's actions ask of an event: their fields, with the mapping that a user starts from.

Names, types and defaults are those of Segment's Amplitude (Actions); one default is relayd's own: ``insert_id`` is the
messageId, by which Amplitude drops what it has had within seven days (amplitude.com/docs/apis/analytics/http-v2).
"""

from relayd.actions.fields import Fields
from relayd.destinations.fields import at, boolean, first, integer, moment, number, table, text

_WHO: Fields = {
    "user_id": text(at("userId"), allowNull=True),
    "device_id": text(first("context.device.id", "anonymousId")),
}
_INSERT_ID: Fields = {"insert_id": text(at("messageId"))}
_MIN_ID_LENGTH: Fields = {"min_id_length": integer(allowNull=True)}
_CIRCUMSTANCES: Fields = {
    "groups": table(),
    "app_version": text(at("context.app.version")),
    "platform": text(at("context.device.type")),
    "os_name": text(at("context.os.name")),
    "os_version": text(at("context.os.version")),
    "device_brand": text(at("context.device.brand")),
    "device_manufacturer": text(at("context.device.manufacturer")),
    "device_model": text(at("context.device.model")),
    "carrier": text(at("context.network.carrier")),
    "country": text(at("context.location.country")),
    "region": text(at("context.location.region")),
    "city": text(at("context.location.city")),
    "dma": text(),
    "language": text(at("context.locale")),
}
_REVENUE: Fields = {
    "price": number(at("properties.price")),
    "quantity": integer(at("properties.quantity")),
    "revenue": number(at("properties.revenue")),
    "productId": text(at("properties.productId")),
    "revenueType": text(at("properties.revenueType")),
}
_PRODUCT: Fields = {
    "price": number(),
    "quantity": integer(),
    "revenue": number(),
    "productId": text(),
    "revenueType": text(),
}
_ADVERTISING_ID = first("context.device.advertisingId", "context.device.idfa")
_EVENT: Fields = {
    **_WHO,
    "event_type": text(at("event"), required=True),
    "session_id": moment(at("integrations.Actions Amplitude.session_id")),
    "time": moment(at("timestamp")),
    "event_properties": table(at("properties")),
    "user_properties": table(at("traits")),
    **_CIRCUMSTANCES,
    **_REVENUE,
    "location_lat": number(at("context.location.latitude")),
    "location_lng": number(at("context.location.longitude")),
    "ip": text(at("context.ip")),
    "idfa": text(_ADVERTISING_ID),
    "idfv": text(at("context.device.id")),
    "adid": text(_ADVERTISING_ID),
    "android_id": text(),
    "event_id": integer(),
    **_INSERT_ID,
    "library": text(at("context.library.name")),
    "library2": table(
        {"behavior": "use_mapping", "mapping": at("context.library.name")},
        properties={"behavior": text(choices=["auto", "use_mapping"]), "mapping": text()},
    ),
    "products": table(
        {"@arrayPath": ["$.properties.products", {key: {"@path": key} for key in _PRODUCT}]},
        multiple=True,
        properties=_PRODUCT,
        additionalProperties=True,
    ),
}
_BATCH_ENDPOINT: Fields = {"use_batch_endpoint": boolean(False)}
_AGENT: Fields = {
    "userAgent": text(at("context.userAgent")),
    "userAgentParsing": boolean(True),
    "includeRawUserAgent": boolean(False),
}
_AGENT_DATA: Fields = {
    "userAgentData": table(
        {key: at(f"context.userAgentData.{key}") for key in ("model", "platformVersion")},
        properties={"model": text(), "platformVersion": text()},
    )
}
_CAMPAIGN = {
    "utm_source": at("context.campaign.source"),
    "utm_medium": at("context.campaign.medium"),
    "utm_campaign": at("context.campaign.name"),
    "utm_term": at("context.campaign.term"),
    "utm_content": at("context.campaign.content"),
}
_ORIGIN: Fields = {
    "utm_properties": table(_CAMPAIGN, properties={key: text() for key in _CAMPAIGN}),
    "referrer": text(at("context.page.referrer")),
}
_TOUCH = {"referrer": at("context.page.referrer"), **_CAMPAIGN}
_FIRST_TOUCH = {f"initial_{key}": value for key, value in _TOUCH.items()}

LOG_EVENT: Fields = {**_EVENT, **_BATCH_ENDPOINT, **_AGENT, **_ORIGIN, **_MIN_ID_LENGTH, **_AGENT_DATA}
LOG_EVENT_V2: Fields = {
    **_EVENT,
    "setOnce": table(_FIRST_TOUCH, properties={key: text() for key in _FIRST_TOUCH}, additionalProperties=True),
    "setAlways": table(_TOUCH, properties={key: text() for key in _TOUCH}, additionalProperties=True),
    "add": table(),
    **_BATCH_ENDPOINT,
    **_AGENT,
    **_MIN_ID_LENGTH,
    **_AGENT_DATA,
}
LOG_PURCHASE: Fields = {"trackRevenuePerProduct": boolean(False), **LOG_EVENT}
IDENTIFY_USER: Fields = {
    **_WHO,
    "user_properties": table(at("traits")),
    **_CIRCUMSTANCES,
    "paying": boolean(),
    "start_version": text(),
    **_INSERT_ID,
    **_AGENT,
    **_ORIGIN,
    **_MIN_ID_LENGTH,
    "library": text(at("context.library.name")),
    **_AGENT_DATA,
}
GROUP_IDENTIFY_USER: Fields = {
    **_WHO,
    **_INSERT_ID,
    "time": text(at("timestamp")),
    "group_properties": table(at("traits")),
    "group_type": text(required=True),
    "group_value": text(required=True),
    **_MIN_ID_LENGTH,
}
MAP_USER: Fields = {"user_id": text(at("previousId")), "global_user_id": text(at("userId")), **_MIN_ID_LENGTH}
