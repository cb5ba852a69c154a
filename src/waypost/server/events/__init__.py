"""Events of clients: the application's handlers, the order they run in, and what is answered."""
