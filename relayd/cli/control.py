"""Talking to a running daemon over its admin socket."""

import os
from typing import Any

import click
import httpx
import msgspec

from relayd.config import address
from relayd.config.model import Config


class NotRunning(click.ClickException):
    """No daemon answers; the text says where it was looked for and what to do."""


def ask(config: Config, path: str, body: object = None) -> Any:
    """GET ``path`` of the admin API, or POST ``body`` there as JSON; the answer, decoded.

    Raises `NotRunning`, or ``click.ClickException`` for a refusal.
    """
    where = address.parse(config.admin.bind)
    if isinstance(where, address.Unix):
        shown = str(config.state_dir / where.path)
        if not os.path.exists(shown):
            raise _not_running(shown, "there is no such socket")
        transport, base = httpx.HTTPTransport(uds=shown), "http://relayd"
    else:
        shown = config.admin.bind
        transport, base = httpx.HTTPTransport(), f"http://{shown}"
    headers = {"authorization": f"Bearer {config.admin.token}"} if config.admin.token else {}
    try:
        with httpx.Client(transport=transport, base_url=base, headers=headers, trust_env=False, timeout=10) as client:
            answer = client.get(path) if body is None else client.post(path, content=msgspec.json.encode(body))
    except httpx.TransportError as error:
        raise _not_running(shown, error) from None
    if answer.status_code != 200:
        raise click.ClickException(_refusal(answer) or f"relayd at {shown} answers {answer.status_code}: {answer.text}")
    return answer.json()


def _not_running(shown: str, why: object) -> NotRunning:
    return NotRunning(
        f"no relayd answers at {shown} ({why}); start it with `relayd run`, or name its configuration with -c"
    )


def _refusal(answer: httpx.Response) -> str | None:
    """What the daemon says against a request, if it is that."""
    try:
        said = answer.json()
    except ValueError:
        return None
    return said.get("message") if isinstance(said, dict) else None
