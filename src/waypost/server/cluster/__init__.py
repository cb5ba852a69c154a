"""The interface to a cluster of servers, and its uses."""
