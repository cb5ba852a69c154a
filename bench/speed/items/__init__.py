"""The pieces of work, one module each."""
