"""A real browser: Debian's headless Chromium, driven by Playwright, which can reach nothing but this machine.

Whatever is not of the loopback address Chromium hands to a proxy, and that proxy is the `Guard` here: it notes what was
asked for, and answers nothing.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from playwright.sync_api import BrowserContext, Page, Request, sync_playwright

from tests.debian import tool

BINARIES = ("chromium", "chromium-headless-shell")
PACKAGE = "chromium-headless-shell"


def chromium() -> str:
    """The path of Chromium. In CI it is installed when it is missing; elsewhere the test is skipped then."""
    return tool(PACKAGE, *BINARIES)


class Guard:
    """Where all that would leave the machine ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        """The first line of each request: whom the browser wanted to reach."""

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            line = await stream.receive_some(4096)
            self.asked.append(bytes(line).partition(b"\r\n")[0].decode("latin-1"))


@asynccontextmanager
async def open_guard() -> AsyncIterator[Guard]:
    """A guard that is there while the block runs."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    guard = Guard(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, guard.handle, [listener])
        yield guard
        nursery.cancel_scope.cancel()


class Browser:
    """A browser with one window, in the thread that made it; each visit's requests are noted."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.requests: list[str] = []
        """The URLs of what pages asked for, in order."""
        self.repeated: list[str] = []
        """The URLs of those that analytics.js sent again."""
        self.preflights: list[str] = []
        """The URLs that were asked with OPTIONS first."""
        self.said: list[str] = []
        """What pages wrote to their consoles."""
        context.on("request", self._note)
        context.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        session = context.new_cdp_session(self.page)
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", self._note_preflight)

    def _note(self, request: Request) -> None:
        self.requests.append(request.url)
        if "x-retry-count" in request.headers:
            self.repeated.append(request.url)

    def _note_preflight(self, event: dict[str, Any]) -> None:
        if event["initiator"]["type"] == "preflight":
            self.preflights.append(event["request"]["url"])

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Let the page run until ``condition()`` is true. Fails with ``what`` after ``seconds``."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"waited in vain for {what}\n{self.requests}\n{self.said}"
            self.page.wait_for_timeout(20)


async def browse(guard: Guard, visit: Callable[[Browser], None]) -> Browser:
    """Run ``visit`` in a thread with a new browser, without a past."""

    def run() -> Browser:
        with sync_playwright() as playwright:
            started = playwright.chromium.launch(
                executable_path=chromium(), args=[f"--proxy-server=http://127.0.0.1:{guard.port}"]
            )
            try:
                browser = Browser(started.new_context())
                visit(browser)
                return browser
            finally:
                started.close()

    return await trio.to_thread.run_sync(run)
