"""The report of a run: one HTML file without dependencies, and the comparison of two runs."""
