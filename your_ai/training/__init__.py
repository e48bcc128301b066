"""Training with measured settings: from results to adapters, with restarts after failures."""
