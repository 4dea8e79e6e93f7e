"""The append-only log that every event is in before its sender is told 200."""
