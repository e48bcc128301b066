"""The worker: a process that serves one request (a trial, a training or a probe) and exits.

It never imports ``your_ai``. Both sides share :mod:`worker.protocol`.
"""
