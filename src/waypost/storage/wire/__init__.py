"""Links between a store's host and its nodes, and what passes over them: frames, messages and errors."""
