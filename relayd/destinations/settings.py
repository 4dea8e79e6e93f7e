"""What a user sets of a destination. It may be printed: what is marked `secret` is masked wherever it has a value."""

from relayd.config.model import Section
from relayd.config.schema import keys

MASK = "[secret]"


class DestinationSettings(Section, frozen=True):
    """The settings of a destination type are a subclass."""

    def __repr__(self) -> str:
        values = {key.name: (key.secret, getattr(self, key.attribute)) for key in keys(type(self)).values()}
        shown = (f"{name}={MASK if secret and value else repr(value)}" for name, (secret, value) in values.items())
        return f"{type(self).__name__}({', '.join(shown)})"
