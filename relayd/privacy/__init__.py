"""Suppression and deletion: users whose events are not taken, and users whose events are forgotten."""
