"""Programs on any machine that use a service by its HTTP API, as `waypost.operations.http_api` serves it."""
