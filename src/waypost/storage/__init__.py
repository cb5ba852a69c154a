"""Storage: journals with their sessions, queues and answers, as opaque bytes in order."""
