"""Predict which models fit, from estimates and earlier measurements."""
