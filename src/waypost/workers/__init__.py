"""Several worker processes as one service (``serve --workers``): a parent has the store, workers have the clients."""
