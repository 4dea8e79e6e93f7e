"""A destination function: events go wherever Python can send them."""

from collections.abc import Mapping

from relayd.functions import Event, ValidationError


async def on_track(event: Event, settings: Mapping[str, object]) -> None:
    """Greet whoever does something; what is printed is in relayd's log."""
    if "userId" not in event:
        raise ValidationError("nobody to greet")
    print(settings.get("greeting", "hello"), event["userId"])


async def on_identify(event: Event, settings: Mapping[str, object]) -> None:
    """Those are of no interest here."""
