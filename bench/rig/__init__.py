"""What the benches start and load: processes, a source of ticks, many stream clients."""
