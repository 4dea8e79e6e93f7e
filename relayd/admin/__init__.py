"""The control socket: what the command line asks of a running daemon."""
