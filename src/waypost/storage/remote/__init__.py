"""A node's side: the whole storage contract over a link to the host."""
