"""What a user sets of Mixpanel."""

from typing import Annotated, Literal

from relayd.config.model import doc, secret
from relayd.destinations.settings import DestinationSettings

_HOSTS = {
    "US": "https://api.mixpanel.com",
    "EU": "https://api-eu.mixpanel.com",
    "IN": "https://api-in.mixpanel.com",
}


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """Which project, and how strict Mixpanel is with what it is sent."""

    project_token: Annotated[str, secret("the project's token", min_length=1, example="PROJECT_TOKEN")]
    api_secret: Annotated[str, secret("the project's secret; empty: the token authenticates events too")] = ""
    api_region: Annotated[
        Literal["US 🇺🇸", "EU 🇪🇺", "IN 🇮🇳", "US", "EU", "IN"],
        doc("where the project's data resides; a flag may be left out"),
    ] = "US 🇺🇸"
    gdpr_token: Annotated[
        str, secret("an OAuth token for Mixpanel's GDPR API; only needed to delete users with `--forward`")
    ] = ""
    source_name: Annotated[str, doc("sent as segment_source_name; empty: not sent")] = ""
    strict_mode: Annotated[
        Literal["1", "0"], doc("1: Mixpanel names the events that it refuses; 0: it drops them without a word")
    ] = "1"

    @property
    def host(self) -> str:
        """The scheme and host of the region."""
        return _HOSTS[self.api_region[:2]]
