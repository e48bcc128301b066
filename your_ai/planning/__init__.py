"""What to run: the device, the budget, the memory estimate, the ordered trials."""
