"""JSON as hypothesis draws it: values of every kind, and events whose fields are as often wrong as right."""

from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(max_size=5) | st.sampled_from(["track", "page", "a", "b", "", "10", "true", "null", "Order Completed"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
KEYS = st.sampled_from(["x", "y", "length", "0", "1", "sku", "a.b"]) | st.text(max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
FIELDS = st.sampled_from(["type", "event", "name", "userId", "anonymousId", "properties", "traits", "context"])
EVENTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    FIELDS | st.text(max_size=3), VALUES | st.dictionaries(KEYS, VALUES, max_size=4), max_size=6
)
