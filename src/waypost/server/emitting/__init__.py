"""Emits: whom one is for, in which order it goes out, and to whom it does."""
