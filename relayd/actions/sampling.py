"""Which events a sample keeps: the same for the same value, on every host and after every restart."""

from hashlib import md5

from relayd.actions.javascript import stringify


def fraction(value: object) -> float:
    """A number from 0 to below 1 that depends on a JSON value alone, uniform over the values there are.

    It is the first 53 bits of the MD5 of the value's JSON: what Segment's sampler makes of the same bits, up to the
    last place. A sample of a share keeps the values whose fraction is below it, so a larger share keeps them too. All
    events without the value are kept or dropped together.
    """
    text = str(stringify(value) or "undefined")
    digest = md5(text.encode(errors="replace"), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2**-53


def browser_fraction(_value: object) -> float:
    """What Segment's JavaScript engine makes of any value: 0, so that every share above 0 keeps everything.

    Executed (@segment/tsub 2.0.1 on node 20): it reads the hexadecimal digits of the MD5 as if they were bytes, and the
    ``ldexp`` it then calls returns 0.
    """
    return 0.0
