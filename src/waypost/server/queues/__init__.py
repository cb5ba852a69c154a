"""Queues: messages that wait until they are acknowledged, and work shared among consumers."""
