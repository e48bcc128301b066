"""Runs: journal, trials, results."""
