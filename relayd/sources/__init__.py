"""Cloud-app sources: every app by its name."""

from collections.abc import Iterator, Mapping
from typing import Any

from relayd.actions.mapping import MappingError, compile_mapping
from relayd.actions.trigger import TriggerError, compile_filter
from relayd.config.errors import Keys
from relayd.config.model import Section, Source, SourceSubscription
from relayd.sources.base import App, Forged, Mapped, TooMany
from relayd.sources.braze import Braze
from relayd.sources.stripe import Stripe
from relayd.sources.webhook import Webhook
from relayd.sources.zendesk import Zendesk

__all__ = ["APPS", "App", "Forged", "Mapped", "TooMany", "app_of", "declared", "faults"]

APPS: dict[str, type[App[Any]]] = {each.app: each for each in (Stripe, Zendesk, Braze, Webhook)}


def declared() -> Mapping[str, type[Section]]:
    """Every app, and what it declares."""
    return {name: each.settings for name, each in APPS.items()}


def app_of(name: str, source: Source) -> App[Any]:
    """The app of a cloud-app source, compiled. Raises what `faults` finds, as errors."""
    assert source.app is not None, "the loader checks that a cloud-app source has its app"
    return APPS[source.app](name, source)


def faults(source: Source) -> Iterator[tuple[Keys, str]]:
    """What is wrong with a cloud-app source, and where in it."""
    assert source.app is not None, "the loader checks that a cloud-app source has its app"
    if source.mapping is not None and source.subscriptions:
        yield ("mapping",), "must be left out, as there are subscriptions; make it one of them"
    if source.trigger is not None and source.mapping is None:
        yield ("trigger",), "needs a mapping beside it"
    if not (source.mapping is not None or source.subscriptions or APPS[source.app].subscriptions):
        yield ("mapping",), f"is required for app {source.app}, or [[subscriptions]]: it says what becomes an event"
    yield from _subscription(
        (), SourceSubscription(name="", trigger=source.trigger or "", mapping=source.mapping or {})
    )
    names: set[str] = set()
    for index, each in enumerate(source.subscriptions):
        if each.name in names:
            yield ("subscriptions", index, "name"), f'"{each.name}" is there twice; each needs its own'
        names.add(each.name)
        yield from _subscription(("subscriptions", index), each)


def _subscription(at: Keys, subscription: SourceSubscription) -> Iterator[tuple[Keys, str]]:
    try:
        if subscription.trigger:
            compile_filter(subscription.trigger)
    except TriggerError as error:
        yield (*at, "trigger"), str(error)
    try:
        compile_mapping(dict(subscription.mapping))
    except MappingError as error:
        for each in error.faults:
            yield (*at, "mapping", *each.path), each.message
