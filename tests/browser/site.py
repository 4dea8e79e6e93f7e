"""A web site whose pages use the README's snippet, and a tool that they talk to themselves.

The tool's code is `TOOL`, which analytics.js loads as a plugin. It sends the messageId of each event that it is given
to the site, and tries again until that has succeeded, on the next page too; so the site knows what was delivered.
"""

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
import trio

from relayd.listener.http import Limits, Server
from relayd.listener.message import Request, Response
from relayd.listener.sockets import open_listeners

README = Path(__file__).parents[2] / "README.md"
WRITE_KEY = "site-key"

TOOL = """
window.TestTool = function (settings) {
  var key = "waits for " + settings.tool, waiting = JSON.parse(localStorage.getItem(key) || "[]");
  function save() { localStorage.setItem(key, JSON.stringify(waiting)); }
  function send(id) {
    fetch("/tool/" + settings.tool, {method: "POST", body: id, keepalive: true}).then(
      function () { waiting = waiting.filter(function (each) { return each !== id; }); save(); },
      function () { setTimeout(send, 100, id); }
    );
  }
  function take(context) {
    waiting.push(context.event.messageId);
    save();
    send(context.event.messageId);
    return context;
  }
  waiting.forEach(send);
  return {
    name: settings.tool + " in the page", version: "1.0.0", type: "destination",
    isLoaded: function () { return true; },
    load: function () { return settings.broken ? Promise.reject(new Error("it will not")) : Promise.resolve(); },
    track: take, identify: take, page: take, group: take
  };
};
"""


def snippet(relay: str, options: str) -> str:
    """The README's snippet, with a relay's address and the options that analytics.js is loaded with."""
    match = re.search(r"^```html\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None, "the README has a snippet"
    text = match[1]
    for here, ours in (("https://RELAY", relay), ('"site"', f'"{WRITE_KEY}"'), ("_loadOptions = {}", options)):
        assert text.count(here) == 1, f"{here} is in the README's snippet"
        text = text.replace(here, ours)
    return text


class Site:
    """Its pages: ``/NAME?OPTIONS`` calls ``analytics.page()``; OPTIONS are those of analytics.js, as JSON."""

    def __init__(self) -> None:
        self.url = ""
        self.relay = ""
        """Where the pages' relay is; set it before they are loaded."""
        self.delivered: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """How often each tool was given each messageId."""

    async def handle(self, request: Request) -> Response:
        """The handler of `Server`."""
        match request.path.split("/")[1:]:
            case ["tool.js"]:
                return Response(200, TOOL.encode(), (("Content-Type", "text/javascript"),))
            case ["tool", name]:
                self.delivered[name][request.body.decode()] += 1
                return Response(204)
            case ["favicon.ico"]:
                return Response(204)
            case [name]:
                options = parse_qs(request.query).get("options", ["{}"])[0]
                msgspec.json.decode(options)
                script = snippet(self.relay, f"_loadOptions = {options}")
                html = f"<!doctype html><html><head><title>{name}</title>\n{script}</head><body></body></html>"
                return Response(200, html.encode(), (("Content-Type", "text/html; charset=utf-8"),))
            case _:
                return Response(404)


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    """A site that serves while the block runs."""
    site = Site()
    server = Server(site.handle, Limits())
    listeners = await open_listeners("127.0.0.1:0")
    (listener,) = listeners
    assert isinstance(listener, trio.SocketListener)
    site.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        yield site
        nursery.cancel_scope.cancel()
