"""Which property of Google Analytics 4 events go to."""

from typing import Annotated

from relayd.config.model import doc, secret
from relayd.destinations.settings import DestinationSettings

ENDPOINT = "https://www.google-analytics.com/mp/collect"


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """Which data stream is fed: a web stream has a measurement ID, an app's a Firebase app ID; there may be both."""

    api_secret: Annotated[
        str, secret("a Measurement Protocol API secret of the stream", min_length=1, example="API_SECRET")
    ]
    measurement_id: Annotated[str, doc("the web stream's measurement ID", example="G-XXXXXXX")] = ""
    firebase_app_id: Annotated[str, doc("the app stream's Firebase app ID, such as 1:1234:android:abcd")] = ""
    endpoint: Annotated[
        str, doc("to have events collected in the EU: https://region1.google-analytics.com/mp/collect")
    ] = ENDPOINT
