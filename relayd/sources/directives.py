"""Short forms for the mappings of sources."""


def at(path: str) -> dict[str, object]:
    """The value at a path of the webhook, such as ``body.id``."""
    return {"@path": f"$.{path}"}


def first(path: str, *others: str) -> dict[str, object]:
    """The value at the first of the paths that holds one, and no empty text."""
    if not others:
        return at(path)
    return {"@if": {"blank": at(path), "then": at(path), "else": first(*others)}}  # "blank" means that it is not


def filled(value: dict[str, object]) -> dict[str, object]:
    """The value, or nothing where it is empty."""
    return {"@if": {"blank": value, "then": value}}
