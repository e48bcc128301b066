"""The test matrix: a small model of every kind that mlx-lm has, trained by a trial and by mlx-lm."""
