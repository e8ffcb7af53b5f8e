"""`bench train`: trains the models of a suite, and keeps what it came to."""
