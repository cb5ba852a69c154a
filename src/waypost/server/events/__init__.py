"""Events from clients: the application's handlers, their order, and the acknowledgements."""
