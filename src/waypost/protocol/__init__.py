"""Engine.IO, Socket.IO and WebSocket as pure functions and state machines: no I/O, no clock, no asyncio."""
