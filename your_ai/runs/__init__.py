"""Runs: their journal, trials and results."""
