"""The report of a run: one HTML file that works from the disk, made from its results."""
