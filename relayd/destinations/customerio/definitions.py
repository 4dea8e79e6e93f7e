"""What Customer.io's actions ask of an event: their fields, the mapping that a user starts from, and their triggers.

Names, types and defaults are those of Segment's Customer.io (Actions).
"""

from relayd.actions.fields import Fields
from relayd.destinations.fields import at, boolean, first, moment, number, table, text

_BATCHING: Fields = {"enable_batching": boolean(True), "batch_size": number(50)}
_CONVERT: Fields = {"convert_timestamp": boolean(True)}
_TIMESTAMP: Fields = {"timestamp": text(at("timestamp"))}
_ANONYMOUS: Fields = {"anonymous_id": text(at("anonymousId"))}
_PERSON: Fields = {"person_id": text(at("userId"), required=True)}
_DEVICE: Fields = {"device_id": text(at("context.device.token"), required=True)}
_WHO: Fields = {"id": text(at("userId")), **_ANONYMOUS}
_EVENT: Fields = {"event_id": text(at("messageId")), **_TIMESTAMP, "data": table(at("properties")), **_CONVERT}
_CREATED: Fields = {"created_at": text(first("traits.created_at", "traits.createdAt"))}
_TRAIT_TYPE: Fields = {"object_type_id": text(first("traits.object_type_id", "traits.objectTypeId"))}
_PROPERTY_TYPE: Fields = {"object_type_id": text(first("properties.object_type_id", "properties.objectTypeId"))}
_RELATIONSHIP: Fields = {"relationship_attributes": table(at("traits.relationshipAttributes"))}

PERSON_ONLY: Fields = {**_PERSON, **_BATCHING}
CREATE_UPDATE_DEVICE: Fields = {
    **_PERSON,
    **_DEVICE,
    "app_version": text(at("context.app.version")),
    "platform": text(at("context.device.type"), required=True),
    "last_used": text(at("timestamp")),
    "attributes": table(at("properties")),
    **_CONVERT,
    **_BATCHING,
}
DELETE_DEVICE: Fields = {**_PERSON, **_DEVICE, **_BATCHING}
DELETE_RELATIONSHIP: Fields = {
    **_PERSON,
    **_ANONYMOUS,
    "object_id": text(at("properties.objectId"), required=True),
    **_PROPERTY_TYPE,
    **_BATCHING,
}
DELETE_OBJECT: Fields = {"object_id": text(at("properties.objectId")), **_PROPERTY_TYPE, **_BATCHING}
CREATE_UPDATE_PERSON: Fields = {
    "id": text(first("userId", "traits.email")),
    **_ANONYMOUS,
    "email": text({"@template": "{{traits.email}}"}),
    **_CREATED,
    "group_id": text(at("traits.objectId")),
    "custom_attributes": table(at("traits")),
    **_RELATIONSHIP,
    **_TIMESTAMP,
    **_CONVERT,
    **_TRAIT_TYPE,
    **_BATCHING,
}
TRACK_EVENT: Fields = {**_WHO, "name": text(at("event"), required=True), **_EVENT, **_BATCHING}
TRACK_PAGE_VIEW: Fields = {**_WHO, "url": text(at("properties.url"), required=True), **_EVENT, **_BATCHING}
TRACK_SCREEN_VIEW: Fields = {**_WHO, "name": text(at("name"), required=True), **_EVENT, **_BATCHING}
CREATE_UPDATE_OBJECT: Fields = {
    "id": text(at("groupId"), required=True),
    **_CREATED,
    "custom_attributes": table(at("traits.objectAttributes")),
    **_RELATIONSHIP,
    "user_id": text(at("userId")),
    **_ANONYMOUS,
    **_TRAIT_TYPE,
    **_CONVERT,
    **_BATCHING,
}
MERGE_PEOPLE: Fields = {
    "primary": text(at("userId"), required=True),
    "secondary": text(at("previousId"), required=True),
    **_BATCHING,
}
METRICS = ("delivered", "opened", "clicked", "converted", "spammed", "bounced", "dropped", "deferred")
REPORT_DELIVERY_EVENT: Fields = {
    "delivery_id": text(at("properties.deliveryId"), required=True),
    "metric": text(at("properties.metric"), required=True, choices=METRICS),
    "recipient": text(at("properties.recipient")),
    "reason": text(at("properties.reason")),
    "href": text(at("properties.href")),
    "action_name": text(at("properties.actionName")),
    "action_value": text(at("properties.actionValue")),
    "timestamp": moment(at("timestamp")),
    **_BATCHING,
}
REPORT_CONTENT_EVENT: Fields = {
    **_ANONYMOUS,
    "actionType": text(at("properties.actionType"), required=True, choices=("viewed_content", "clicked_content")),
    **_TIMESTAMP,
    "data": table(at("properties")),
    **_CONVERT,
    **_BATCHING,
}

_SEMANTIC = (
    *("Application Installed", "Application Opened", "Application Uninstalled", "Device Created or Updated"),
    *("Device Deleted", "Relationship Deleted", "User Deleted", "User Suppressed", "User Unsuppressed"),
    *("Object Deleted", "Report Delivery Event", "Report Content Event"),
)
"""Track events that do something else than being tracked."""


def _any(*events: str) -> str:
    return " or ".join(f'event = "{event}"' for event in events)


TRIGGERS = {
    "createUpdatePerson": 'type = "identify"',
    "createUpdateDevice": _any("Application Installed", "Application Opened", "Device Created or Updated"),
    "deleteDevice": _any("Application Uninstalled", "Device Deleted"),
    "deleteRelationship": _any("Relationship Deleted"),
    "deletePerson": _any("User Deleted"),
    "deleteObject": _any("Object Deleted"),
    "trackEvent": " and ".join(['type = "track"', *(f'event != "{event}"' for event in _SEMANTIC)]),
    "trackPageView": 'type = "page"',
    "trackScreenView": 'type = "screen"',
    "createUpdateObject": 'type = "group"',
    "mergePeople": 'type = "alias"',
    "suppressPerson": _any("User Suppressed"),
    "unsuppressPerson": _any("User Unsuppressed"),
    "reportDeliveryEvent": _any("Report Delivery Event"),
    "reportContentEvent": _any("Report Content Event"),
}
"""By action, in the order in which the presets are listed."""
