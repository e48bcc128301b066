"""The fields that nvidia-smi is asked for."""

OLD_QUERY = (
    "memory.total,memory.free,mig.mode.current,"
    "clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
)
"""Without the counters, which older drivers do not have."""

QUERY = ",".join(
    (
        OLD_QUERY,
        "clocks_event_reasons_counters.hw_thermal_slowdown",
        "clocks_event_reasons_counters.hw_power_brake_slowdown",
        "clocks_event_reasons_counters.sw_thermal_slowdown",
        "clocks_event_reasons_counters.sw_power_cap",
    )
)
