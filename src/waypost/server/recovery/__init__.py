"""Connection recovery: the stored session of a client that may come back, and the events it missed."""
