"""Plan a run: the device, the budget, the memory estimate and the ordered trials."""
