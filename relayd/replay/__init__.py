"""History again: events of the journal or of archived logs, delivered to one destination beside the live ones."""
