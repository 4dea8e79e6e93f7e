"""What would become of an event at a destination, without sending it. Pure: no clock, no network, no disk.

The decisions are those of `Eligibility` and `Subscription`, which delivery asks too; here they are only told in full.
Whatever is in the way, what comes after it is explained as well, as far as there is an event left.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from relayd.actions.faults import Faulty
from relayd.actions.filters import FilterStep
from relayd.actions.reasons import reasons
from relayd.actions.trigger import parse_filter, parse_trigger
from relayd.config import model
from relayd.config.load import Loaded
from relayd.delivery.attempt import addressed
from relayd.delivery.eligibility import (
    DESTINATION_DISABLED,
    NO_MATCHING_MAPPING,
    SUPPRESSED_USER,
    UNREADABLE,
    Eligibility,
)
from relayd.delivery.explanation import (
    DEVICE_MODE_ONLY,
    NOTHING_TO_SEND,
    SOURCE_DISABLED,
    Change,
    CheckResult,
    Explanation,
    Fault,
    FilterResult,
    SentRequest,
    Stored,
    SubscriptionResult,
    changes,
)
from relayd.delivery.mask import Mask
from relayd.delivery.outbox import Stored as Row
from relayd.delivery.outcome import MESSAGE_REJECTED
from relayd.destinations import get
from relayd.destinations.subscription import Mapped, Subscription, compile_subscriptions, pick
from relayd.event import Arrival, Head, Invalid, decode_head, encode_lines, format_time, normalise, repair, require
from relayd.privacy.suppressed import is_suppressed

__all__ = ["NEW_MESSAGE_ID", "Explainer", "Explanation"]

NEW_MESSAGE_ID = "00000000-0000-4000-8000-000000000000"
"""Stands for the one that relayd would give to an event without a messageId, so that the output is reproducible."""

_LABELS = frozenset({"destination", "type", "source", "name", "action", "kind", "format", "place", "method", "reason"})
"""Fields of an explanation that hold names of the configuration or of relayd, never a value of an event."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Explainer:
    """Explains events at one destination of a configuration."""

    def __init__(self, name: str, loaded: Loaded, *, now: float) -> None:
        """``now`` in Unix seconds: when a raw event is received, and when it is sent."""
        config, destination = loaded.config, loaded.config.destinations[name]
        assert isinstance(destination.settings, model.Section), "the loader checks settings against the type"
        self._name = name
        self._config = config
        self._destination = destination
        self._type = get(destination.type)
        self._now = now
        self._subscriptions = compile_subscriptions(
            self._type, destination.settings, destination.subscriptions, destination.delivery
        )
        self._eligibility = Eligibility.of(
            name, destination, self._subscriptions, sources=config.sources, random=lambda: 0.0
        )
        self._mask = Mask(loaded.secrets)
        self._label_mask = Mask(loaded.secrets - {*config.sources, *config.destinations})
        """For texts that name sources and destinations, which a careless write key may equal."""

    def raw(self, event: bytes, source: str, *, found: str) -> Explanation:
        """A JSON object as an SDK of ``source`` sends it."""
        checks = [_on(SOURCE_DISABLED, f"source {source}", self._config.sources[source].enabled)]
        try:
            line = _as_kept(event, source, self._config, now=self._now)
        except Invalid as invalid:
            checks.append(CheckResult(invalid.code, False, f"by the Tracking API's rules, {invalid}"))
            return self._explanation(source=source, found=found, event=_decode(event), checks=checks)
        arrival = changes(_decode(event), _decode(line))
        return self.kept(line, found=found, arrival=arrival, before=checks)

    def kept(
        self, line: bytes, *, found: str, arrival: Sequence[Change] = (), before: Sequence[CheckResult] = ()
    ) -> Explanation:
        """A line of the journal. ``before`` are the checks that it met on its way there."""
        try:
            line = line.rstrip(b"\r\n")
            head, event = decode_head(line), _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            checks = [*before, CheckResult(UNREADABLE, False, f"the line is no event: {error}")]
            return self._explanation(source="", found=found, event=None, checks=checks)
        checks = [
            *before,
            *self._welcome(head),
            *self._reachable(),
            *(CheckResult(*each) for each in self._eligibility.checks(head)),
        ]
        sorted_ = self._eligibility.sort(line, head)
        refusal = sorted_ if isinstance(sorted_, str) else None
        payloads = {} if isinstance(sorted_, str) else {each.subscription: each.payload for each in sorted_}
        steps = self._eligibility.filter_steps(event)
        left = steps[-1].after if steps else event
        return self._explanation(
            source=head.projectId,
            found=found,
            event=event,
            arrival=arrival,
            checks=checks,
            filters=[self._filter(step, event) for step in steps],
            subscriptions=[] if left is None else self._all_subscriptions(left, payloads),
            refusal=refusal,
        )

    def stored(self, rows: Sequence[Row], *, found: str) -> Explanation:
        """Rows of the destination's outbox, of one event: what its next attempt, or a redrive, would send."""
        by_name = {each.name: each for each in self._subscriptions}
        payload = rows[0].delivery.payload
        return self._explanation(
            source=decode_head(payload).projectId,
            found=found,
            event=_decode(payload),
            checks=self._reachable(),
            subscriptions=[self._stored(row, by_name) for row in rows],
        )

    def _explanation(
        self,
        *,
        source: str,
        found: str,
        event: object,
        checks: Sequence[CheckResult],
        arrival: Sequence[Change] = (),
        filters: Sequence[FilterResult] = (),
        subscriptions: Sequence[SubscriptionResult] = (),
        refusal: str | None = None,
    ) -> Explanation:
        """The steps put together, with the verdict, and masked."""
        failed = next((each for each in checks if not each.passed), None)
        reason: str | None
        if failed is not None:
            reason, why = failed.reason, failed.detail
        elif refusal is not None:
            reason, why = refusal, _why_refused(refusal, filters, subscriptions)
        else:
            reason, why = _verdict(subscriptions)
        explanation = Explanation(
            destination=self._name,
            type=self._destination.type,
            source=source,
            sent=not reason,
            reason=reason,
            why=why,
            found=found,
            event=event,
            arrival=list(arrival),
            checks=list(checks),
            filters=list(filters),
            subscriptions=list(subscriptions),
        )
        masked = self._masked(explanation)
        assert isinstance(masked, Explanation)
        return masked

    def _welcome(self, head: Head) -> list[CheckResult]:
        """That the event's user is suppressed, if so."""
        database = self._config.state_dir / "relayd.sqlite3"
        if head.userId is None or not is_suppressed(database, head.userId):
            return []
        return [CheckResult(SUPPRESSED_USER, False, "the event's user is suppressed: see `relayd privacy list`")]

    def _reachable(self) -> list[CheckResult]:
        """Whether relayd sends to the destination at all."""
        checks = [_on(DESTINATION_DISABLED, f"destination {self._name}", self._destination.enabled)]
        if not self._type.cloud:
            checks.append(CheckResult(DEVICE_MODE_ONLY, False, "its type has device-mode only: devices send to it"))
        return checks

    def _filter(self, step: FilterStep, event: dict[str, Any]) -> FilterResult:
        table = self._destination.filters[step.filter]
        sample = table.sample if step.action == "sample" else None
        share = sample.get("percent") if sample is not None and not sample.get("path") else None
        by_chance = float(share) if isinstance(share, int | float) and 0 < share < 1 else None
        return FilterResult(
            filter=step.filter,
            action=step.action,
            condition=reasons(parse_filter(table.condition), event),
            changes=[] if step.after is None else changes(step.before, step.after),
            dropped=step.after is None,
            by_chance=by_chance,
            error=step.error,
        )

    def _all_subscriptions(
        self, event: dict[str, Any], payloads: Mapping[str | None, bytes]
    ) -> list[SubscriptionResult]:
        """Each subscription; ``payloads`` are what those that match get, by their names."""
        disabled = [
            SubscriptionResult(each.name, each.action, each.trigger, enabled=False, matches=False)
            for each in self._destination.subscriptions
            if not each.enabled
        ]
        results = []
        for each in self._subscriptions:
            condition = reasons(parse_trigger(each.condition), event) if each.condition else None
            if each.name in payloads:
                result = self._sending(each, payloads[each.name])
                results.append(msgspec.structs.replace(result, condition=condition))
            else:
                results.append(
                    SubscriptionResult(each.name, _action(each), each.condition, matches=False, condition=condition)
                )
        return results + disabled

    def _stored(self, row: Row, by_name: Mapping[str | None, Subscription[Any]]) -> SubscriptionResult:
        delivery = row.delivery
        at = None if row.at is None else format_time(row.at)
        stored = Stored(
            place="dead letters" if row.held else "pending",
            attempts=delivery.attempts,
            received=format_time(delivery.received),
            due=None if row.held else at,
            held=at if row.held else None,
            reason=row.reason,
            detail=row.detail,
        )
        try:
            subscription = pick(by_name, delivery.subscription, delivery.payload)
        except ValueError as error:
            return SubscriptionResult(delivery.subscription, "", "", faults=_faults(error), stored=stored)
        return msgspec.structs.replace(self._sending(subscription, delivery.payload), stored=stored)

    def _sending(self, subscription: Subscription[Any], event: bytes) -> SubscriptionResult:
        """What a subscription makes of an event that it matches."""
        payload: object = None
        faults: list[Fault] = []
        requests = []
        mapped = isinstance(subscription, Mapped)
        try:
            if isinstance(subscription, Mapped):
                payload = subscription.mapped(event)
            fit = subscription.payload(event)
            payload = fit if mapped else None
            subscription.group(fit)
            requests = subscription.requests([fit], now=self._now)
        except ValueError as error:
            faults = _faults(error)
        except Exception as error:  # as in an attempt, which holds the event
            faults = [Fault("", f"{type(error).__name__}: {error}")]
        base_url = self._destination.delivery.base_url
        return SubscriptionResult(
            name=subscription.name,
            action=_action(subscription),
            trigger=subscription.condition,
            payload=_plain(payload),
            faults=faults,
            batch_size=subscription.batch_size,
            requests=[SentRequest.of(each, addressed(each.url, base_url)) for each in requests],
        )

    def _masked(self, value: object, field: str = "") -> object:
        """A part of an explanation without secrets."""
        match value:
            case Change(path="projectId"):
                return value
            case CheckResult():
                return msgspec.structs.replace(value, detail=self._label_mask.text(value.detail))
            case Struct():
                masked = {name: self._masked(getattr(value, name), name) for name in value.__struct_fields__}
                return type(value)(**masked)
            case [Struct(), *_]:
                return [self._masked(each) for each in value]
            case str() if field in _LABELS:
                return value
            case str() if field in ("why", "found"):
                return self._label_mask.text(value)
            case {"projectId": str() as source} if field == "event" and source in self._config.sources:
                masked_event = self._mask.value(value)
                assert isinstance(masked_event, dict)
                return masked_event | {"projectId": source}
            case _:
                return self._mask.value(value)


def _as_kept(event: bytes, source: str, config: model.Config, *, now: float) -> bytes:
    """The journal's line of an event that ``source`` sends at ``now``. Raises `Invalid`, as the listener counts it."""
    limit = config.listener.max_event
    if len(event) > limit:
        raise Invalid("message_too_large", f"the event is larger than {limit}")
    client_side = config.sources[source].type in ("web", "mobile")
    arrival = Arrival(project=source, received=int(now * 1000), client_side=client_side)
    sent, extra = repair(Raw(event))
    require(sent)
    sent.message_id = sent.message_id or NEW_MESSAGE_ID
    rejected: Counter[str] = Counter()
    kept = normalise([sent], arrival, None, rejected)
    for code in rejected:
        raise Invalid(code, "the event is not kept")
    line = encode_lines(kept, arrival, {} if extra is None else {0: extra})
    if len(line) - 1 > limit:
        raise Invalid("message_too_large", f"with what relayd adds, the event is larger than {limit}")
    return line


def _on(reason: str, what: str, enabled: bool) -> CheckResult:
    return CheckResult(reason, enabled, f"{what} is {'enabled' if enabled else 'disabled (enabled = false)'}")


def _action(subscription: Subscription[Any]) -> str:
    return subscription.action.name if isinstance(subscription, Mapped) else ""


def _faults(error: ValueError) -> list[Fault]:
    if isinstance(error, Faulty):
        return [Fault("/" + "/".join(each.path), each.message) for each in error.faults]
    return [Fault("", str(error))]


def _plain(value: object) -> object:
    """A payload as JSON has it; what is undefined is null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _why_refused(reason: str, filters: Sequence[FilterResult], subscriptions: Sequence[SubscriptionResult]) -> str:
    if reason == NO_MATCHING_MAPPING:
        enabled = [each for each in subscriptions if each.enabled]
        return "no subscription's trigger matches" if enabled else "it has no subscriptions"
    last = filters[-1]
    if last.error is not None:
        return f"filters[{last.filter}] can not be applied, so the event is not sent: {last.error}"
    return f"filters[{last.filter}] drops it ({last.action})"


def _verdict(subscriptions: Sequence[SubscriptionResult]) -> tuple[str | None, str]:
    """Why nothing would be sent, or None and what would be."""
    live = [each for each in subscriptions if each.matches and not (each.stored and each.stored.held)]
    count = sum(len(each.requests) for each in live)
    if count:
        held = sum(bool(each.faults) for each in live)
        but = f"; held as a dead letter for {held} of {len(live)} subscriptions" if held else ""
        return None, f"{count} request{'' if count == 1 else 's'}{but}"
    letter = next((each.stored for each in subscriptions if each.stored and each.stored.held), None)
    if letter is not None and not live:
        return letter.reason, f"it is held as a dead letter since {letter.held}: {letter.detail or letter.reason}"
    fault = next((fault for each in live for fault in each.faults), None)
    if fault is None:
        return NOTHING_TO_SEND, "its action has nothing to send of it; it counts as delivered"
    return MESSAGE_REJECTED, f"it would be held as a dead letter: {' '.join(filter(None, (fault.path, fault.message)))}"
