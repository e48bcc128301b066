"""From the results to a real training, and through its failures."""
