"""A page of one origin, analytics.js from a relay on another: each event arrives exactly once by the right road.

The roads: ``hook`` is a webhook that gets all. ``Helper`` is a tool that the page talks to itself, and a webhook of the
same name is its cloud-mode. ``Broken`` is one that does not start in the page, so its cloud-mode gets all.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest
import trio
from playwright.sync_api import Page

from relayd.config.toml import render
from relayd.testing import Sink, open_sink
from tests.browser.chromium import Browser, Guard, browse, chromium, open_guard
from tests.browser.site import WRITE_KEY, Site, open_site
from tests.relay import Relay
from tests.sdk.packages import node_package
from tests.waiting import until

PACKAGE = "@segment/analytics-next"
VERSION = "1.84.3"
CLOUD = ("hook", "Helper", "Broken")

BATCHING = {"integrations": {"Segment.io": {"deliveryStrategy": {"strategy": "batching", "config": {"size": 4}}}}}


def device(site: Site, name: str, **settings: object) -> str:
    """A tool that the site's pages talk to."""
    return (
        f'type = "device"\nsettings.name = "{name}"\nsettings.url = "{site.url}/tool.js"\n'
        f'settings.library = "TestTool"\nsettings.settings = {render({"tool": name, **settings})}'
    )


class Stand:
    """A site, a relay, and the sinks behind the relay."""

    def __init__(self, relay: Relay, site: Site, guard: Guard, sinks: dict[str, Sink]) -> None:
        self.relay, self.site, self.guard, self.sinks = relay, site, guard, sinks

    def open(self, page: Page, name: str, options: object = None) -> None:
        """Open a page of the site, and return once analytics.js has started in it."""
        query = f"?options={quote(msgspec.json.encode(options).decode())}" if options else ""
        page.goto(f"{self.site.url}/{name}{query}")
        page.wait_for_function("window.analytics.initialized")

    async def browse(self, visit: Callable[[Browser], None]) -> Browser:
        """Have a browser visit; nobody else was asked for anything, and pages had nothing to complain of."""
        browser = await browse(self.guard, visit)
        assert self.guard.asked == []
        hosts = {urlsplit(url).netloc for url in browser.requests if not url.startswith("data:")}
        assert hosts <= {urlsplit(self.site.url).netloc, urlsplit(self.relay.url).netloc}
        return browser

    def arrived(self, name: str) -> bool:
        """Whether the webhook ``hook`` has the event of this name."""
        return any(
            msgspec.json.decode(event).get("event") == name
            for request in list(self.sinks["hook"].requests)
            for event in request.events
        )

    async def check(self, names: list[str]) -> dict[str, Any]:
        """The events of these names arrived, each once by the right roads, and were counted so; the status says it."""
        status = await self.relay.drained(len(names))
        await until(lambda: self.site.delivered["Helper"].total() >= len(names))
        events = list(self.relay.journal())
        assert sorted(event.get("event") or event.get("name") or event["type"] for event in events) == sorted(names)
        once = {event["messageId"]: 1 for event in events}
        assert {name: self.sinks[name].accepted for name in CLOUD} == {"hook": once, "Helper": {}, "Broken": once}
        assert self.site.delivered == {"Helper": Counter(once)}
        assert {event["projectId"] for event in events} == {"site"}
        counted = {
            name: (each["state"], each["received"], each["filtered"], each["delivered"])
            for name, each in status["destinations"].items()
        }
        count = len(names)
        assert counted == {
            "hook": ("running", count, {}, count),
            "Helper": ("running", count, {"MESSAGE_SENT_CLIENT_SIDE": count}, 0),
            "Broken": ("running", count, {}, count),
            "helper-in-page": ("disabled", 0, {}, 0),
            "broken-in-page": ("disabled", 0, {}, 0),
        }
        assert status["sources"]["site"]["received"] == count
        assert status["sources"]["site"]["rejected"] == {}
        assert not (self.relay.state / "outbox" / "helper-in-page.sqlite3").exists()
        return status


@asynccontextmanager
async def open_stand(root: Path, package: Path) -> AsyncIterator[Stand]:
    """All of it, running. ``package`` is analytics.js."""
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(open_guard())
        site = await stack.enter_async_context(open_site())
        sinks = {name: await stack.enter_async_context(open_sink()) for name in CLOUD}
        destinations = {name: f'type = "webhook"\nsettings.url = "{sink.url}"' for name, sink in sinks.items()}
        destinations["helper-in-page"] = device(site, "Helper", appId="123")
        destinations["broken-in-page"] = device(site, "Broken", broken=True)
        more = f'listener.analytics_js = "{package}"\n[sources.site]\ntype = "web"\nwrite_key = "{WRITE_KEY}"\n'
        relay = stack.enter_context(Relay(root, destinations, more=more))
        await relay.start()
        site.relay = relay.url
        yield Stand(relay, site, guard, sinks)
        assert await relay.stop() == 0
        relay.assert_clean_log()


@pytest.fixture(scope="module", autouse=True)
def package() -> Path:
    """The installed npm package. Skips where that or the browser can not be had."""
    chromium()
    return node_package(f"{PACKAGE}@{VERSION}") / "node_modules" / PACKAGE


@pytest.fixture
async def stand(tmp_path: Path, package: Path) -> AsyncIterator[Stand]:
    async with open_stand(tmp_path, package) as opened:
        yield opened


async def test_events_of_the_readmes_snippet_arrive_after_a_preflight_each_by_its_road(stand: Stand) -> None:
    def visit(browser: Browser) -> None:
        stand.open(browser.page, "shop")
        browser.page.evaluate(
            """() => {
                analytics.identify("ada", {plan: "pro"});
                analytics.track("Order Completed", {total: 9.5});
                analytics.group("acme");
            }"""
        )
        browser.wait(lambda: stand.arrived("Order Completed"), "an order")
        browser.wait(lambda: stand.sinks["Broken"].accepted.total() == 4, "four events")
        browser.wait(lambda: stand.site.delivered["Helper"].total() == 4, "four events in the page")

    browser = await stand.browse(visit)
    await stand.check(["page", "identify", "Order Completed", "group"])
    relay = stand.relay.url
    assert set(browser.preflights) == {f"{relay}/v1/{letter}" for letter in "pitg"}
    assert f"{relay}/analytics.js/v1/{WRITE_KEY}/analytics.min.js" in browser.requests
    assert f"{relay}/v1/projects/{WRITE_KEY}/settings" in browser.requests
    assert any(url.startswith(f"{relay}/analytics-next/bundles/ajs-destination.bundle.") for url in browser.requests)
    (page,) = [event for event in stand.relay.journal() if event["type"] == "page"]
    assert page["_metadata"] == {
        "failedInitializations": ["Broken"],
        "bundled": ["Broken", "Helper", "Segment.io"],
        "unbundled": ["hook"],
        "bundledIds": ["broken-in-page", "helper-in-page"],
    }
    assert page["context"]["ip"] == "127.0.0.1"
    assert page["context"]["page"]["url"] == f"{stand.site.url}/shop"
    assert not [each for each in browser.said if each.startswith("error")]


async def test_what_is_tracked_offline_arrives_once_the_page_is_online(stand: Stand) -> None:
    names = [f"offline {number}" for number in range(3)]

    def visit(browser: Browser) -> None:
        stand.open(browser.page, "train")
        browser.wait(lambda: stand.sinks["hook"].accepted.total() == 1, "the page")
        browser.context.set_offline(True)
        browser.page.evaluate("names => { names.forEach(name => analytics.track(name)); }", names)
        browser.page.wait_for_timeout(1500)
        assert stand.sinks["hook"].accepted.total() == 1
        browser.context.set_offline(False)
        browser.wait(lambda: all(map(stand.arrived, names)), "what was tracked offline")
        browser.wait(lambda: stand.site.delivered["Helper"].total() == 4, "all events in the page")

    await stand.browse(visit)
    await stand.check(["page", *names])


async def test_what_the_relay_could_not_take_is_sent_again_by_the_page(stand: Stand) -> None:
    def recorded() -> bool:
        destinations = stand.relay.status()["destinations"]
        return all(destinations[name]["delivered"] == 1 for name in ("hook", "Broken"))

    def visit(browser: Browser) -> None:
        stand.open(browser.page, "outage")
        browser.wait(recorded, "the page, delivered and recorded: else it may be delivered twice")
        stand.relay.kill()
        browser.page.evaluate("() => { analytics.track('meanwhile'); }")
        browser.wait(lambda: any("CONNECTION_REFUSED" in each for each in browser.said), "a failure")
        stand.relay.spawn()
        browser.wait(lambda: stand.arrived("meanwhile"), "what the relay had missed")

    browser = await stand.browse(visit)
    assert f"{stand.relay.url}/v1/t" in browser.repeated
    await stand.check(["page", "meanwhile"])


async def test_batches_leave_when_they_are_full_and_what_is_left_when_the_page_is_closed(stand: Stand) -> None:
    first, last = [f"first {number}" for number in range(3)], [f"last {number}" for number in range(2)]

    def visit(browser: Browser) -> None:
        stand.open(browser.page, "list", BATCHING)
        browser.page.evaluate("names => { names.forEach(name => analytics.track(name)); }", first)
        browser.wait(lambda: stand.sinks["hook"].accepted.total() == 4, "a batch")
        browser.page.evaluate("names => Promise.all(names.map(name => analytics.track(name)))", last)
        browser.page.goto("about:blank")
        browser.wait(lambda: all(map(stand.arrived, last)), "what the page had left")

    browser = await stand.browse(visit)
    await stand.check(["page", *first, *last])
    assert not [url for url in browser.requests if url.startswith(f"{stand.relay.url}/v1/t")]
    assert set(browser.preflights) == {f"{stand.relay.url}/v1/b"}


async def test_a_batch_whose_page_is_closed_before_the_first_request_arrives_too(stand: Stand) -> None:
    def visit(browser: Browser) -> None:
        stand.open(browser.page, "short", BATCHING)
        browser.page.evaluate("() => analytics.track('and gone')")
        browser.page.goto("about:blank")
        browser.wait(lambda: stand.arrived("and gone"), "what the page had")

    await stand.browse(visit)
    await stand.check(["page", "and gone"])


async def test_what_a_page_could_not_send_before_it_was_closed_is_sent_by_the_next(stand: Stand) -> None:
    names = [f"late {number}" for number in range(5)]

    def visit(browser: Browser) -> None:
        stand.open(browser.page, "one")
        browser.wait(lambda: stand.sinks["hook"].accepted.total() == 1, "the page")
        browser.context.set_offline(True)
        browser.page.evaluate("names => Promise.all(names.map(name => analytics.track(name)))", names)
        browser.page.goto("about:blank")
        browser.context.set_offline(False)
        assert stand.sinks["hook"].accepted.total() == 1
        stand.open(browser.page, "two")
        browser.wait(lambda: stand.sinks["hook"].accepted.total() == 7, "what the first page had, and the second")
        browser.wait(lambda: stand.site.delivered["Helper"].total() == 7, "all events in the page")

    await stand.browse(visit)
    await stand.check(["page", "page", *names])


async def test_the_guard_sees_whoever_wants_to_leave() -> None:
    def visit(browser: Browser) -> None:
        for url in ("https://cdn.segment.example/x", "http://192.0.2.1/y"):
            with pytest.raises(Exception, match=r"ERR_"):
                browser.page.goto(url)

    async with open_guard() as guard:
        with trio.fail_after(30):
            await browse(guard, visit)
    assert guard.asked == ["CONNECT cdn.segment.example:443 HTTP/1.1", "GET http://192.0.2.1/y HTTP/1.1"]
