"""Hands connections over between the workers of one service, so that no client has to reach a certain worker."""
