"""Benchmarks of relayd, each beside its yardstick. ``scripts/bench --help`` says how to run them."""
