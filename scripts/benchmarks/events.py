"""The events of the load: all alike but for their messageId, which is never the same twice."""

import base64
import secrets

WRITE_KEY = "bench"
DIGITS = 12  # of the counter that ends each messageId

# As analytics-node sends them, with properties of a shop; about 600 bytes.
_EVENT = (
    '{"timestamp":"2026-11-24T10:55:30.799Z","integrations":{},"event":"Order Completed","type":"track","properties":'
    '{"order_id":"50314b8e9bcf000000000000","total":27.5,"revenue":25.0,"currency":"EUR","coupon":"hasbros","products":'
    '[{"product_id":"507f1f77bcf86cd799439011","sku":"45790-32","name":"Monopoly: 3rd Ed.","price":19,"quantity":1}]'
    '},"context":{"ip":"203.0.113.7","locale":"de-DE","library":{"name":"@segment/analytics-node","version":"3.1.0"}},'
    '"userId":"user-7f3a2c","messageId":"{id}","_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"}}'
)


def lines(count: int, *, rare: int) -> bytes:
    """So many events as relayd's journal has them; each ``rare``-th is called `Rare`."""
    end = ',"receivedAt":"2026-11-24T10:55:31.123Z","projectId":"bench","sentAt":"2026-11-24T10:55:31.000Z"}\n'
    event = _EVENT.removesuffix("}") + end
    common, other = event, event.replace('"Order Completed"', '"Rare"')
    return "".join(
        (common if number % rare else other).replace("{id}", f"bench-{number:0{DIGITS}}") for number in range(count)
    ).encode()


class Requests:
    """Requests to the listener, of ``batch`` events each (None: one event to ``/v1/track``).

    Two instances never share a messageId; ``request(n)`` and ``lua()`` of one instance do, so use one of them.
    """

    def __init__(self, batch: int | None = None) -> None:
        self.events = batch or 1
        event = _EVENT.replace("{id}", f"bench-{secrets.token_hex(8)}-{'0' * DIGITS}")
        self._before = event.index("-" + "0" * DIGITS) + 1
        self._stride = len(event) + 1
        if batch is None:
            path, body, start = "/v1/track", event, 0
        else:
            opening = '{"batch":['
            path, start = "/v1/batch", len(opening)
            body = f"{opening}{','.join([event] * batch)}]" + ',"sentAt":"2026-11-24T10:55:31.000Z"}'
        authorization = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: relayd-bench\r\nContent-Type: application/json\r\n"
            f"Authorization: Basic {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._text = head + body
        self._first = len(head) + start + self._before
        places = [self._first + i * self._stride for i in range(self.events)]
        pieces = [
            self._text[a + DIGITS : b] for a, b in zip([-DIGITS, *places], [*places, len(self._text)], strict=True)
        ]
        self._template = "%012d".join(pieces).encode()

    def request(self, number: int) -> bytes:
        """The request of that number, from 0."""
        first = number * self.events
        return self._template % tuple(range(first, first + self.events))

    def lua(self) -> str:
        """The same requests as a script for wrk, with one thread; at the end it prints its summary as JSON."""
        return _LUA % (self._text.replace("\r\n", r"\r\n"), self._first, self._stride, self.events, DIGITS)


# The counters are patched in a buffer, because building 60 KB of strings a request would make wrk the bottleneck.
_LUA = """
local ffi = require "ffi"
local text, first, stride, events, digits = '%s', %d, %d, %d, %d
local buffer, number = ffi.new("uint8_t[?]", #text), 0
ffi.copy(buffer, text, #text)

function request()
  for place = first, first + (events - 1) * stride, stride do
    local rest = number
    for digit = place + digits - 1, place, -1 do
      local next = (rest - rest %% 10) / 10
      buffer[digit], rest = 48 + rest - next * 10, next
    end
    number = number + 1
  end
  return ffi.string(buffer, #text)
end

function done(summary, latency)
  local e = summary.errors
  print(string.format('{"requests":%%d,"seconds":%%.6f,"errors":%%d,"p50_ms":%%.3f,"p99_ms":%%.3f}',
    summary.requests - e.status, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""
