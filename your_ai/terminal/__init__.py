"""Output for people at the terminal."""
