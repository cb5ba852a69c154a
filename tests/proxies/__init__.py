"""Waypost behind nginx, haproxy and caddy, with the configurations of docs/serving.md."""
