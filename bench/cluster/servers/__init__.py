"""The servers that are measured as nodes; all run the same small application."""
