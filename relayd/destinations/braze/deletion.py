"""Braze's ``POST /users/delete`` (braze.com/docs/api/endpoints/user_data/post_user_delete): up to 50 ``external_ids`` a
request; the API key needs the permission users.delete. It can not be undone."""

from collections.abc import Sequence

from relayd.destinations.base import Request
from relayd.destinations.braze.settings import Settings, call

MAX_USERS = 50
"""Of a request."""


def deletions(settings: Settings, ids: Sequence[str]) -> list[Request]:
    """The requests that delete users."""
    return [
        call(settings, "POST", "users/delete", {"external_ids": ids[start : start + MAX_USERS]})
        for start in range(0, len(ids), MAX_USERS)
    ]
