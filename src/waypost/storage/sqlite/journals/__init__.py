"""Journals and the sessions on them, in the store's file."""
