"""Which models should fit, from estimates and earlier measurements."""
