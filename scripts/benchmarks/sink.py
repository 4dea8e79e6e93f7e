"""A receiving end that is never the bottleneck: answers every POST with 200 and counts the events in it.

It knows just enough HTTP for that (keep-alive, Content-Length; no chunks), because its core is shared with the load.
``GET`` answers the counts as JSON. Events are counted by their ``"messageId"`` or Mixpanel's ``"$insert_id"``, so an
event and an array both do.

    python -m benchmarks.sink PORT
"""

import select
import socket
import sys
import urllib.request

import msgspec

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Counts(msgspec.Struct):
    """What has come in since the start."""

    requests: int = 0
    events: int = 0
    connections: int = 0


def counts(port: int) -> Counts:
    """The counts of the sink that listens on ``port``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return msgspec.json.decode(answer.read(), type=Counts)


def length(head: bytes) -> int:
    """The Content-Length of a request's head; raises ``ValueError`` when there is none."""
    lower = head.lower()
    start = lower.index(b"\r\ncontent-length:") + 17
    return int(lower[start : lower.find(b"\r\n", start)])


def answer(data: bytes, seen: Counts) -> tuple[bytes, bytes]:
    """Counts the complete requests in ``data``; the answers to them, and the rest of ``data``."""
    answers = b""
    while (end := data.find(b"\r\n\r\n")) >= 0:
        if data.startswith(b"GET "):
            body = msgspec.json.encode(seen)
            answers += b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            data = data[end + 4 :]
            continue
        size = end + 4 + length(data[: end + 2])
        if len(data) < size:
            break
        seen.requests += 1
        seen.events += data.count(b'"messageId":', end, size) or data.count(b'"$insert_id":', end, size)
        answers += OK
        data = data[size:]
    return answers, data


def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    seen = Counts()
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    partial: dict[int, bytes] = {}
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poller.register(client, select.EPOLLIN)
                clients[client.fileno()] = client
                seen.connections += 1
                continue
            try:
                data = clients[fd].recv(262144)
                if data:
                    answers, rest = answer(partial.pop(fd, b"") + data, seen)
                    if rest:
                        partial[fd] = rest
                    if answers:
                        clients[fd].sendall(answers)
            except ConnectionError:
                data = b""
            if not data:
                partial.pop(fd, None)
                clients.pop(fd).close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
