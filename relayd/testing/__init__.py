"""What users and our own tests share: a destination that records, and fails on purpose."""

from relayd.testing.faults import Faults
from relayd.testing.sink import Received, Sink, open_sink

__all__ = ["Faults", "Received", "Sink", "open_sink"]
