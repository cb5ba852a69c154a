"""The reference backend: everything in memory, gone when the process ends."""
