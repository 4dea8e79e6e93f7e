"""What the settings of several apps have in common."""

from typing import Annotated

from relayd.config import model
from relayd.config.model import Section, doc
from relayd.config.units import Duration

MASK = "[secret]"


class SignedSettings(Section, frozen=True, kw_only=True):
    """For an app that signs its webhooks, and the time with them."""

    secret: Annotated[str, model.secret("signs the webhooks; the app shows it", min_length=1, example="whsec_example")]
    tolerance: Annotated[
        Duration, doc("how far the time in a signature may be from relayd's clock; 0s: any time", ge=0)
    ] = Duration(300)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(secret={MASK}, tolerance={self.tolerance})"
