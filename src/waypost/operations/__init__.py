"""The HTTP applications for those who run a service: the API, metrics and health."""
