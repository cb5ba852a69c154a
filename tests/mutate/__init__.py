"""Mutants: small mistakes put into the source on purpose, each of which some test should notice."""
