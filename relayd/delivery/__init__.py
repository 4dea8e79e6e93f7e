"""From the journal to a destination: one actor each, with an outbox of its own."""
