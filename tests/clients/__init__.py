"""Socket.IO clients of other languages and runtimes, each a program of its own, against a real server process."""
