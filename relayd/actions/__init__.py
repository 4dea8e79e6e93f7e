"""What to send: triggers, filters, mappings and fields, compiled from the configuration; pure, without I/O."""
