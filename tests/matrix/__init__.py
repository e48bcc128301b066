"""The test matrix: small models of every type of mlx-lm, trained by a trial and by mlx-lm."""
