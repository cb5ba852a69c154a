"""The application's functions for server and client alike: their signatures, and arguments made to fit them."""
