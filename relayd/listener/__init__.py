"""Where applications send their events."""
