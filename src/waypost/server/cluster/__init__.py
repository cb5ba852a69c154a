"""The seam for a cluster of servers, and what it is used for."""
