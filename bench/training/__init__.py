"""`bench train`: trains the models of a suite, and keeps the results."""
