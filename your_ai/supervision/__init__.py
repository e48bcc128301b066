"""One worker process: started, watched, ended, and what its death proves."""
