"""The orders in which one consumer's messages may be delivered."""
