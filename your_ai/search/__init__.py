"""Search for a model's best configuration."""
