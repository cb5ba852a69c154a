"""What every room of the server needs and what needs none of them: targets, checks, handshakes, chance and time."""
