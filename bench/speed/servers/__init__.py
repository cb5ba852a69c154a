"""The servers that are measured; all run the same small application."""
