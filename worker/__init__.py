"""The worker: one fresh process that runs one trial and reports what it measured.

It never imports ``your_ai``; what both sides share is :mod:`worker.protocol`.
"""
