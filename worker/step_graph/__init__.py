"""Predicts the memory of a training step from its graph, which is traced but never evaluated."""
