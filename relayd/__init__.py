"""relayd: a Segment-compatible event relay for one host."""

from importlib.metadata import version

__version__ = version("relayd")
