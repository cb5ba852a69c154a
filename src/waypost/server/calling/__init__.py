"""How application code is called: handlers, and the tasks that run them."""
