"""The HTTP API: programs in any language emit, fill queues, and look at them."""
