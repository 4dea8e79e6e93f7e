"""A batch becomes requests that belong together, and each delivery gets the outcome that is its own."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from relayd.config import model
from relayd.config.units import Duration, Rate, Size
from relayd.delivery.attempt import Attempt
from relayd.delivery.outbox import Delivery
from relayd.delivery.outcome import DELIVERED, Event, Outcome
from relayd.delivery.throttle import Throttle
from relayd.destinations import CATALOG
from relayd.destinations.subscription import compile_subscriptions
from tests.delivery.stand import standing
from tests.delivery.tool import (
    MAX_BODY,
    MESSAGE_ID,
    ONE_BY_ONE,
    TOGETHER,
    TWO_EACH,
    Reply,
    Sent,
    Settings,
    Tool,
    Vendor,
    configuration,
    subscription,
    verdicts,
)
from tests.events import line
from tests.waiting import until

NOW = 1_795_514_400.0
ORDERS = subscription("orders", "many", trigger='event = "Order Completed"')
BIG = subscription("big", "one", trigger="properties.number >= 10")


@pytest.fixture(autouse=True)
def _tool_in_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tool", Tool())


def event(
    number: int, subscription: str | None = "together", user: str | None = None, **properties: object
) -> Delivery:
    """A delivery; its properties are what the tool's fields are mapped from."""
    payload = line(number, properties={"number": number, **properties})[:-1]
    return Delivery(number, f"id-{number}", user, 0, payload, subscription=subscription)


def ids(numbers: Iterable[int]) -> list[str]:
    return [f"id-{number}" for number in numbers]


class Bench:
    """An attempt without an actor around it."""

    def __init__(
        self,
        vendor: Vendor,
        *specs: model.Subscription,
        ordered: bool = False,
        base_url: str = "",
        timeout: float = 10,
        rate: float | None = None,
        **delivery: object,
    ) -> None:
        self.vendor = vendor
        self.judged: list[Outcome] = []
        self.paces = 0
        self._throttle = Throttle(rate)
        self._throttle.take(trio.current_time())  # as the actor does for a batch's first request
        settings = model.Delivery(**delivery)  # type: ignore[arg-type]
        self._attempt = Attempt(
            "tool",
            compile_subscriptions(Tool(), Settings(), specs or [TOGETHER, ONE_BY_ONE, TWO_EACH], settings),
            senders={"http": vendor},
            timeout=timeout,
            base_url=base_url,
            ordered=ordered,
            redact=lambda text: text.replace("s3cr3t", "****"),
            clock=lambda: NOW,
            pace=self._pace,
            judge=self.judged.append,
        )

    async def send(self, *batch: Delivery) -> list[Outcome]:
        found = await self._attempt.send(batch)
        assert len(found) == len(batch)
        assert self.judged
        return found

    async def _pace(self) -> None:
        self.paces += 1
        await trio.sleep(self._throttle.wait(trio.current_time()))
        self._throttle.take(trio.current_time())


def kinds(found: Sequence[Outcome]) -> list[tuple[Event, str]]:
    return [(each.event, each.reason) for each in found]


# Parcels


async def test_a_request_holds_events_of_one_subscription_and_one_group() -> None:
    bench = Bench(Vendor(), TOGETHER, subscription("others", "many"))
    found = await bench.send(
        event(1, list="a"),
        event(2, list="b"),
        event(3, "others", list="a"),
        event(4, list="a"),
        event(5),
        event(6, "others", list="a"),
        event(7, list=""),
        event(8),
    )
    assert bench.vendor.batches == [ids([1, 4]), ids([2]), ids([3, 6]), ids([5, 8]), ids([7])]
    assert found == [DELIVERED] * 8
    assert [each.event for each in bench.judged] == [Event.DELIVER] * 5


async def test_fields_that_the_mapping_names_group_too() -> None:
    mapping = {name: {"@path": path} for name, path in [("messageId", "$.messageId"), ("mail", "$.properties.mail")]}
    together = subscription("together", "many", mapping=mapping | {"batch_keys": ["mail"]})
    bench = Bench(Vendor(), together)
    await bench.send(*(event(number, mail=f"{'ab'[number % 2]}@x.example") for number in range(6)))
    assert bench.vendor.batches == [ids([0, 2, 4]), ids([1, 3, 5])]


@pytest.mark.parametrize(("configured", "sizes"), [(None, [10, 10, 7]), (4, [4] * 6 + [3]), (1, [1] * 27), (100, [27])])
async def test_no_request_has_more_events_than_the_batch_size(configured: int | None, sizes: list[int]) -> None:
    bench = Bench(Vendor(), batch_size=configured)
    await bench.send(*map(event, range(27)))
    assert [len(each) for each in bench.vendor.batches] == sizes
    assert [each for batch in bench.vendor.batches for each in batch] == ids(range(27))


async def test_an_action_without_batches_gets_each_event_by_itself() -> None:
    bench = Bench(Vendor())
    await bench.send(*(event(number, "one by one") for number in range(20)))
    assert bench.vendor.batches == [[each] for each in ids(range(20))]
    assert {each.path for each in bench.vendor.sent} == {"one"}


async def test_a_batch_of_one_is_still_sent_as_a_batch() -> None:
    bench = Bench(Vendor())
    await bench.send(event(1))
    assert bench.vendor.sent[0].path == "many"


# Bad events


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_request_is_halved_down_to_the_bad_event(status: int) -> None:
    bench = Bench(Vendor(lambda sent: Reply(status, b"bad") if "id-5" in sent.ids else 200))
    found = await bench.send(*map(event, range(10)))
    assert kinds(found) == [(Event.REFUSE, str(status)) if number == 5 else (Event.DELIVER, "") for number in range(10)]
    assert found[5].detail == "bad"
    assert len(bench.vendor.sent) <= 9
    assert bench.vendor.batches[-1] == ids([8, 9]) or bench.vendor.batches[-1] == ids(range(7, 10))
    accepted = [each for sent in bench.vendor.sent if "id-5" not in sent.ids for each in sent.ids]
    assert accepted == [each for each in ids(range(10)) if each != "id-5"]


async def test_only_the_parcel_with_the_bad_event_is_halved() -> None:
    bench = Bench(Vendor(lambda sent: 400 if "id-3" in sent.ids else 200))
    await bench.send(*(event(number, list="ab"[number % 2]) for number in range(8)))
    assert bench.vendor.batches[0] == ids([0, 2, 4, 6])
    assert not any("id-0" in batch for batch in bench.vendor.batches[1:])


@pytest.mark.parametrize("status", [401, 403, 404, 410, 301, 501])
async def test_an_answer_that_is_about_all_events_holds_all_at_once(status: int) -> None:
    bench = Bench(Vendor(lambda sent: status))
    found = await bench.send(*map(event, range(10)))
    assert kinds(found) == [(Event.REFUSE, str(status))] * 10
    assert len(bench.vendor.sent) == 1


async def test_verdicts_are_each_events_own_and_are_not_asked_for_again() -> None:
    bench = Bench(Vendor(lambda sent: verdicts("ok", "busy", "400", "ok")))
    found = await bench.send(*map(event, range(4)))
    assert kinds(found) == [(Event.DELIVER, ""), (Event.FAIL, "busy"), (Event.REFUSE, "400"), (Event.DELIVER, "")]
    assert [each.detail for each in found] == ["", "the vendor said busy", "the vendor said 400", ""]
    assert len(bench.vendor.sent) == 1


async def test_verdicts_that_refuse_every_event_are_not_halved() -> None:
    bench = Bench(Vendor(lambda sent: verdicts(*["400"] * 4)))
    assert kinds(await bench.send(*map(event, range(4)))) == [(Event.REFUSE, "400")] * 4
    assert len(bench.vendor.sent) == 1


async def test_a_verdict_to_retry_waits_as_long_as_the_vendor_asked() -> None:
    answer = Reply(429, msgspec.json.encode(["429", "ok", "bad"]), {"retry-after": "7"})
    found = await Bench(Vendor(lambda sent: answer)).send(*map(event, range(3)))
    assert [each.retry_after for each in found] == [7, None, None]


async def test_a_200_can_mean_no_for_an_event_that_is_sent_alone() -> None:
    bench = Bench(Vendor(lambda sent: Reply(200, b"ok" if sent.ids == ["id-1"] else b"no_text")))
    found = await bench.send(event(1, "one by one"), event(2, "one by one"))
    assert kinds(found) == [(Event.DELIVER, ""), (Event.REFUSE, "no_text")]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'["ok"]', b'["ok","ok","ok","ok"]'])
@pytest.mark.parametrize("status", [200, 503])
async def test_verdicts_that_can_not_be_read_leave_the_word_to_the_status(status: int, body: bytes) -> None:
    found = await Bench(Vendor(lambda sent: Reply(status, body))).send(*map(event, range(3)))
    assert kinds(found) == [(Event.DELIVER, "") if status == 200 else (Event.FAIL, "503")] * 3


async def test_bodies_that_are_too_large_are_halved_unsent() -> None:
    bench = Bench(Vendor())
    found = await bench.send(*(event(number, pad="x" * (300 if number else 3 * MAX_BODY)) for number in range(10)))
    assert found == [DELIVERED] * 10
    assert bench.vendor.batches[0] == ["id-0"], "one that is too large by itself is the vendor's to refuse"
    assert all(each.size <= MAX_BODY for each in bench.vendor.sent[1:])
    assert sorted(each for batch in bench.vendor.batches for each in batch) == ids(range(10))


async def test_the_configuration_can_make_requests_smaller() -> None:
    bench = Bench(Vendor(), batch_bytes=Size(500))
    await bench.send(*(event(number, pad="x" * 100) for number in range(10)))
    assert all(each.size <= 500 for each in bench.vendor.sent)
    assert len(bench.vendor.sent) == 4


@pytest.mark.parametrize("count", [3, 30], ids=["in place", "in a thread"])
async def test_an_event_that_can_not_be_mapped_is_held_alone_and_its_values_stay_untold(count: int) -> None:
    bench = Bench(Vendor())
    bad = [
        event(100, mail="ada at example"),
        event(101, "one by one", mail={"private": 1}),
        Delivery(102, "id-102", None, 0, b'{"x":1e999,"event":"private"}', subscription="together"),
        Delivery(103, "id-103", None, 0, b'{"event":"private"}', subscription="one by one"),
        Delivery(104, "id-104", None, 0, b'{"a":' * 5000 + b"1" + b"}" * 5000, subscription="together"),
        event(105, "one by one", list="unsendable", mail="private@x.example"),
        event(106, "one by one", list="bug", mail="private@x.example"),
    ]
    found = await bench.send(*bad, *map(event, range(count)))
    assert kinds(found) == [(Event.REFUSE, "MESSAGE_REJECTED")] * 7 + [(Event.DELIVER, "")] * count
    assert [each.alive for each in found[:7]] == [None] * 7
    details = [each.detail for each in found[:7]]
    assert not any("private" in each or "ada" in each for each in details)
    expected = [
        "/mail: is no email",
        "/mail: is object, must be string",
        "Number out of range",
        "/messageId: is missing, it is required",
        "no request could be made of it: RecursionError",
        "list is unsendable",
        "no request could be made of it: KeyError",
    ]
    assert [each[: len(part)] for part, each in zip(expected, details, strict=True)] == expected
    assert sorted(each for batch in bench.vendor.batches for each in batch) == sorted(ids(range(count)))


async def test_an_event_that_sinks_its_batch_before_it_is_sent_is_found_by_halving() -> None:
    bench = Bench(Vendor())
    together = subscription("t", "many", mapping={"messageId": MESSAGE_ID, "list": MESSAGE_ID})
    found = await Bench(bench.vendor, together, batch_size=50).send(event(1, "t"))
    assert found == [DELIVERED]
    found = await bench.send(*(event(number, list="unsendable") for number in range(2)), event(2))
    assert kinds(found) == [(Event.REFUSE, "MESSAGE_REJECTED")] * 2 + [(Event.DELIVER, "")]
    assert {each.detail for each in found[:2]} == {"list is unsendable"}


async def test_when_nothing_could_be_mapped_the_destination_is_not_judged_by_it() -> None:
    bench = Bench(Vendor())
    await bench.send(event(1, mail="no"), event(2, mail="no"))
    assert [(each.event, each.alive) for each in bench.judged] == [(Event.REFUSE, None)]
    assert not bench.vendor.sent


async def test_an_event_of_which_nothing_is_sent_is_delivered_and_says_nothing_of_the_destination() -> None:
    bench = Bench(Vendor())
    assert kinds(await bench.send(event(1, "one by one", list="nothing"))) == [(Event.DELIVER, "")]
    assert [each.alive for each in bench.judged] == [None]


async def test_a_url_that_no_one_can_call_holds_its_event_and_capitals_do_not() -> None:
    bench = Bench(Vendor())
    found = await bench.send(event(1, "one by one", list="elsewhere"), event(2, "one by one", list="shouting"))
    assert kinds(found) == [(Event.REFUSE, "MESSAGE_REJECTED"), (Event.DELIVER, "")]


# Failures


FAULTS = [httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), httpx.RemoteProtocolError("garbage")]


@pytest.mark.parametrize("fault", FAULTS, ids=["slow", "refused", "garbage"])
async def test_without_an_answer_the_rest_of_the_batch_fails_unsent(fault: Exception) -> None:
    bench = Bench(Vendor(lambda sent: fault if "id-10" in sent.ids else 200))
    found = await bench.send(*map(event, range(30)), event(30, "one by one"))
    assert [each.event for each in found] == [Event.DELIVER] * 10 + [Event.FAIL] * 21
    assert len({each.reason for each in found[10:]}) == 1
    assert bench.vendor.batches == [ids(range(10)), ids(range(10, 20))]
    assert [each.alive for each in bench.judged] == [True, False]


async def test_what_a_destination_that_hangs_costs_is_one_timeout(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench(Vendor(), timeout=10)
    bench.vendor.gate = trio.Event()
    start = trio.current_time()
    found = await bench.send(*(event(number, "one by one") for number in range(12)))
    assert kinds(found) == [(Event.FAIL, "ETIMEDOUT")] * 12
    assert trio.current_time() - start == 10
    assert len(bench.vendor.sent) == 1


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_an_answer_that_says_later_is_about_its_own_request_only(status: int) -> None:
    bench = Bench(Vendor(lambda sent: status if "id-10" in sent.ids else 200))
    found = await bench.send(*map(event, range(30)))
    failed = (Event.FAIL, str(status))
    assert kinds(found) == [(Event.DELIVER, "")] * 10 + [failed] * 10 + [(Event.DELIVER, "")] * 10


async def test_a_failure_among_halves_fails_only_its_half() -> None:
    def answer(sent: Sent) -> int:
        return 400 if len(sent.ids) == 8 else 503 if "id-0" in sent.ids else 200

    found = await Bench(Vendor(answer)).send(*map(event, range(8)))
    assert kinds(found) == [(Event.FAIL, "503")] * 4 + [(Event.DELIVER, "")] * 4


async def test_no_secret_is_told_not_even_the_half_of_one() -> None:
    body = b"x" * 497 + b"s3cr3t" + b"y" * 1000
    found = await Bench(Vendor(lambda sent: Reply(503, body))).send(event(1))
    assert found[0].detail == "x" * 497 + "***"


# Order


async def test_in_order_no_event_overtakes_one_of_another_parcel() -> None:
    bench = Bench(Vendor(), ordered=True)
    await bench.send(*(event(number, user="ada", list="aab"[number % 3]) for number in range(9)))
    assert bench.vendor.batches == [ids([0, 1]), ids([2]), ids([3, 4]), ids([5]), ids([6, 7]), ids([8])]


@pytest.mark.parametrize("answer", [Reply(503), Reply(429), verdicts("busy"), verdicts("429")])
async def test_in_order_whatever_fails_stops_what_comes_behind_it(answer: Reply) -> None:
    bench = Bench(Vendor(lambda sent: answer if sent.ids == ["id-1"] else 200), ordered=True)
    found = await bench.send(*(event(number, user="ada", list=str(number)) for number in range(4)))
    assert [each.event for each in found] == [Event.DELIVER] + [Event.FAIL] * 3
    assert bench.vendor.batches == [["id-0"], ["id-1"]]


async def test_in_order_a_failure_behind_a_refusal_in_one_answer_is_not_overlooked() -> None:
    bench = Bench(Vendor(lambda sent: verdicts("bad", "busy") if "id-0" in sent.ids else 200), ordered=True)
    found = await bench.send(
        event(0, user="ada"), event(1, user="bob"), event(2, user="bob", list="x"), event(3, user="ada", list="x")
    )
    assert [each.event for each in found] == [Event.REFUSE, Event.FAIL, Event.FAIL, Event.FAIL]
    assert bench.vendor.batches == [ids([0, 1])]


@pytest.mark.parametrize("answer", [Reply(404), verdicts("bad")])
async def test_in_order_a_dead_letter_does_not_stop_what_comes_behind_it(answer: Reply) -> None:
    bench = Bench(Vendor(lambda sent: answer if sent.ids == ["id-1"] else 200), ordered=True)
    found = await bench.send(*(event(number, user="ada", list=str(number)) for number in range(3)))
    assert [each.event for each in found] == [Event.DELIVER, Event.REFUSE, Event.DELIVER]


async def test_in_order_halves_stop_each_other_too() -> None:
    def answer(sent: Sent) -> int:
        return 400 if len(sent.ids) == 8 else 503 if "id-2" in sent.ids else 200

    bench = Bench(Vendor(answer), ordered=True)
    found = await bench.send(*(event(number, user="ada") for number in range(8)), event(8, "one by one", user="ada"))
    assert kinds(found) == [(Event.FAIL, "503")] * 9
    assert bench.vendor.batches == [ids(range(8)), ids(range(4))]


# Several requests of an event


async def test_requests_of_an_event_go_out_in_order_up_to_the_first_that_fails() -> None:
    bench = Bench(Vendor(lambda sent: 503 if sent.path == "profile" and sent.ids == ["id-1"] else 200))
    found = await bench.send(*(event(number, "two each") for number in range(3)))
    assert kinds(found) == [(Event.DELIVER, ""), (Event.FAIL, "503"), (Event.DELIVER, "")]
    assert [(each.path, *each.ids) for each in bench.vendor.sent] == [
        ("profile", "id-0"),
        ("event", "id-0"),
        ("profile", "id-1"),
        ("profile", "id-2"),
        ("event", "id-2"),
    ]


@pytest.mark.parametrize(("status", "kind"), [(503, Event.FAIL), (404, Event.REFUSE)])
async def test_an_event_is_not_delivered_before_its_last_request_is(status: int, kind: Event) -> None:
    bench = Bench(Vendor(lambda sent: status if sent.path == "event" else 200))
    assert kinds(await bench.send(event(1, "two each"))) == [(kind, str(status))]


# Subscriptions that left


async def test_a_delivery_whose_subscription_left_goes_to_the_first_that_matches() -> None:
    bench = Bench(Vendor(), BIG, ORDERS, TWO_EACH)
    found = await bench.send(
        event(3, "gone"), event(11, "gone"), event(12, None), event(4, "orders"), event(13, "two each")
    )
    assert found == [DELIVERED] * 5
    assert [(each.path, each.ids) for each in bench.vendor.sent] == [
        ("many", ["id-3", "id-4"]),
        ("one", ["id-11"]),
        ("one", ["id-12"]),
        ("profile", ["id-13"]),
        ("event", ["id-13"]),
    ]


async def test_a_delivery_whose_subscription_left_is_held_when_no_other_matches() -> None:
    off = subscription("off", "many", enabled=False)
    found = await Bench(Vendor(), BIG, off).send(event(1, "gone"), event(2, None), event(3, "off"), event(10, "big"))
    assert kinds(found) == [(Event.REFUSE, "MESSAGE_REJECTED")] * 3 + [(Event.DELIVER, "")]
    assert {each.detail for each in found[:3]} == {
        "its subscription has left the configuration, and no other one matches"
    }


# Pace and place


async def test_the_rate_holds_within_a_batch(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench(Vendor(), rate=5)
    batch = [
        *(event(number, "one by one") for number in range(10)),
        *(event(number, "two each") for number in (10, 11)),
    ]
    await bench.send(*batch)
    times = [each.at for each in bench.vendor.sent]
    assert len(times) == 14
    assert [round(later - earlier, 6) for earlier, later in pairwise(times)] == [0.2] * 13


async def test_every_request_but_the_first_of_a_batch_waits_for_its_turn() -> None:
    bench = Bench(Vendor(lambda sent: 400 if len(sent.ids) > 2 else 200))
    await bench.send(*map(event, range(4)), event(4, "two each"))
    assert len(bench.vendor.sent) == 5
    assert bench.paces == 4


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "http://vendor.test/v1/one?key=1"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/v1/one?key=1"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1/one?key=1"),
        ("http://proxy/vendor", "http://proxy/vendor/v1/one?key=1"),
        (r"http://a\1b", r"http://a\1b/v1/one?key=1"),
    ],
)
async def test_a_base_url_stands_in_for_scheme_and_host_and_for_nothing_else(base_url: str, url: str) -> None:
    bench = Bench(Vendor(), base_url=base_url)
    await bench.send(event(1, "one by one"))
    assert [each.url for each in bench.vendor.sent] == [url]


async def test_a_base_url_stands_in_for_a_host_in_capitals_too() -> None:
    bench = Bench(Vendor(), base_url="http://proxy")
    await bench.send(event(1, "one by one", list="shouting"))
    assert [each.url for each in bench.vendor.sent] == ["http://proxy/v1/one"]


# In an actor


async def test_each_event_reaches_each_subscription_that_it_matches(tmp_path: Path) -> None:
    vendor = Vendor()
    async with standing(tmp_path, vendor, configuration(ORDERS, BIG)) as stand:
        stand.append(range(30))
        stand.append(range(30, 35), event="Opened", properties={"number": 1})
        await stand.settled()
        stand.check_conservation()
        counts = stand.outbox
        assert counts.totals("filtered") == {"NO_MATCHING_MAPPING": 5}
        assert (counts.count("matched"), counts.count("deliveries"), counts.count("delivered")) == (30, 50, 50)
        got = Counter((each.path, id_) for each in vendor.sent for id_ in each.ids)
        assert got == Counter([("many", id_) for id_ in ids(range(30))] + [("one", id_) for id_ in ids(range(10, 30))])


async def test_a_retry_and_a_dead_letter_keep_their_subscription(tmp_path: Path) -> None:
    failing = True

    def answer(sent: Sent) -> int:
        return 503 if failing else 404 if sent.path == "one" else 200

    async with standing(tmp_path, Vendor(answer), configuration(ORDERS, BIG), stop=False) as stand:
        stand.append(range(8, 12))
        await until(lambda: stand.outbox.count("attempts:failed") >= 6)
    failing = False
    async with standing(tmp_path, Vendor(answer), configuration(ORDERS, BIG)) as stand:
        waiting = Counter(row[0] for row in stand.outbox._execute("SELECT subscription FROM deliveries"))
        assert waiting == {"orders": 4, "big": 2}
        await stand.settled()
        stand.check_conservation()
        held = stand.outbox._execute("SELECT message_id, subscription, reason FROM dead_letters ORDER BY id").fetchall()
        assert held == [("id-10", "big", "404"), ("id-11", "big", "404")]
        assert stand.outbox.count("delivered") == 4


async def test_what_waits_finds_a_subscription_after_the_configuration_changed(tmp_path: Path) -> None:
    async with standing(tmp_path, Vendor(lambda sent: 503), configuration(TOGETHER), stop=False) as stand:
        stand.append(range(8, 12))
        await until(lambda: stand.outbox.count("attempts:failed") >= 4)
    vendor = Vendor()
    async with standing(tmp_path, vendor, configuration(BIG)) as stand:
        await stand.settled()
        stand.check_conservation()
        assert sorted(vendor.batches) == [["id-10"], ["id-11"]]
        held = stand.outbox._execute("SELECT message_id, subscription, reason FROM dead_letters ORDER BY id").fetchall()
        assert held == [("id-8", "together", "MESSAGE_REJECTED"), ("id-9", "together", "MESSAGE_REJECTED")]


async def test_an_event_that_can_not_be_decoded_does_not_crash_the_actor(tmp_path: Path) -> None:
    async with standing(tmp_path, Vendor(), configuration(TOGETHER)) as stand:
        stand.log.append([line(1), line(2).replace(b'"number":2', b'"number":1e999'), line(3)])
        await stand.settled()
        stand.check_conservation()
        assert stand.outbox.totals("failed") == {"MESSAGE_REJECTED": 1}
        assert stand.outbox.count("delivered") == 2


@pytest.mark.parametrize("seed", range(3))
async def test_users_events_stay_in_order_across_parcels_and_failures(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    accepted: list[int] = []

    def answer(sent: Sent) -> int | Reply | Exception:
        draw = chance.random()
        if draw < 0.1:
            return 503 if draw < 0.05 else httpx.ConnectError("refused")
        if sent.path == "many" and draw < 0.2:
            codes = ["busy"] * len(sent.ids) if draw < 0.15 else ["bad"] + ["busy"] * (len(sent.ids) - 1)
            return verdicts(*codes)
        accepted.extend(int(each[3:]) for each in sent.ids)
        return 200

    config = configuration(
        subscription("even", "many", trigger="properties.even = true"),
        subscription("odd", "one", trigger="properties.even = false"),
        ordering="user",
    )
    async with standing(tmp_path, Vendor(answer), config) as stand:
        for number in range(300):
            even = chance.random() < 0.7
            stand.append([number], properties={"even": even, "list": chance.choice("abc")})
        await stand.settled()
        stand.check_conservation()
        assert len(accepted) == stand.outbox.count("delivered") == 300 - stand.outbox.count("failed")
        for user in range(7):
            of_user = [number for number in accepted if number % 7 == user]
            assert of_user == sorted(of_user)


@pytest.mark.parametrize("seed", range(3))
async def test_in_a_storm_each_delivery_is_delivered_once_or_held(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    accepted: Counter[tuple[str, str]] = Counter()

    def answer(sent: Sent) -> int | Reply | Exception:
        draw = chance.random()
        if draw < 0.2:
            faults: list[int | Reply | Exception] = [httpx.ConnectError("refused"), 503, 429, Reply(500, b"<html>")]
            return chance.choice(faults)
        bad = {each for each in sent.ids if int(each[3:]) % 20 == 7}
        if draw < 0.6 and sent.path == "many":
            codes = ["bad" if each in bad else chance.choice(["ok", "ok", "busy"]) for each in sent.ids]
            accepted.update((sent.path, each) for each, code in zip(sent.ids, codes, strict=True) if code == "ok")
            return verdicts(*codes)
        if bad:
            return Reply(400)
        accepted.update((sent.path, each) for each in sent.ids)
        return 200

    config = configuration(ORDERS, BIG, subscription("small", "two", trigger="properties.number < 50"))
    async with standing(tmp_path, Vendor(answer), config) as stand:
        for number in range(400):
            mail = {"mail": "not an address"} if number % 50 == 3 else {}
            stand.append([number], properties={"number": number % 100, "list": chance.choice("abc"), **mail})
        stand.append(range(400, 410), event="Other", properties={})
        await stand.settled()
        stand.check_conservation()
        held = Counter(stand.outbox._execute("SELECT message_id, subscription FROM dead_letters").fetchall())
        expected = Counter(
            (f"id-{number}", name)
            for number in range(400)
            for name, matches in (("orders", True), ("big", number % 100 >= 10), ("small", number % 100 < 50))
            if matches
        )
        assert stand.outbox.count("deliveries") == expected.total()
        assert set(held) <= set(expected)
        assert set(held.values()) == {1}
        paths = {"orders": "many", "big": "one", "small": "event"}
        delivered = expected - held
        assert {(paths[name], id_): 1 for id_, name in delivered} == {
            key: count for key, count in accepted.items() if key[0] != "profile"
        }


async def test_an_actors_rate_holds_within_a_batch_of_many_requests(tmp_path: Path) -> None:
    vendor = Vendor()
    config = configuration(TOGETHER, rate=Rate(100), batch_size=40, concurrency=1, batch_wait=Duration(0.1))
    async with standing(tmp_path, vendor, config) as stand:
        stand.log.append(line(number, properties={"list": str(number)}) for number in range(40))
        await stand.settled()
    assert len(vendor.sent) == 40
    assert vendor.sent[-1].at - vendor.sent[0].at > 0.28  # a burst of a tenth of a second is allowed


async def test_an_actors_rate_holds_among_batches_that_are_out_at_once(tmp_path: Path) -> None:
    vendor = Vendor()
    config = configuration(TOGETHER, rate=Rate(50), batch_size=5, concurrency=8)
    async with standing(tmp_path, vendor, config) as stand:
        stand.log.append(line(number, properties={"list": str(number)}) for number in range(60))
        await stand.settled()
    times = sorted(each.at for each in vendor.sent)
    for place, start in enumerate(times):
        for more, end in enumerate(times[place:]):
            assert more <= 50 * (end - start) + 7, "a burst of a tenth of a second is allowed"
