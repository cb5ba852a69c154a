"""Programs without a server: they emit, publish, move and disconnect clients, on the store that servers share."""
