"""Talking to a running daemon over its admin socket."""

from typing import Any

import click
import httpx

from relayd.config import address
from relayd.config.model import Config


class NotRunning(click.ClickException):
    """No daemon answers; the text says where it was looked for and what to do."""


def ask(config: Config, path: str) -> Any:
    """GET ``path`` of the admin API, decoded. Raises `NotRunning`, or ``click.ClickException`` for a refusal."""
    where = address.parse(config.admin.bind)
    if isinstance(where, address.Unix):
        shown = str(config.state_dir / where.path)
        transport, base = httpx.HTTPTransport(uds=shown), "http://relayd"
    else:
        shown = config.admin.bind
        transport, base = httpx.HTTPTransport(), f"http://{shown}"
    headers = {"authorization": f"Bearer {config.admin.token}"} if config.admin.token else {}
    try:
        with httpx.Client(transport=transport, base_url=base, headers=headers, trust_env=False, timeout=10) as client:
            answer = client.get(path)
    except httpx.TransportError as error:
        raise NotRunning(
            f"no relayd answers at {shown} ({error}); start it with `relayd run`, or name its configuration with -c"
        ) from None
    if answer.status_code != 200:
        raise click.ClickException(f"relayd at {shown} answers {answer.status_code}: {answer.text}")
    return answer.json()
