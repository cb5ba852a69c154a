"""Order and memory: journals, the sessions on them, and queues, as opaque bytes."""
