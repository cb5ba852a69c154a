"""What can be seen of a server while it runs: hooks, counters, debug logs."""
