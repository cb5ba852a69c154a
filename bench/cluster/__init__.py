"""Several servers as one service, beside others with their adapters: ``python -m bench.cluster``."""
