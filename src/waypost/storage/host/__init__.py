"""The host's side: one store, served to several nodes."""
