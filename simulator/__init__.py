"""A TWS API server and a Client Portal server with a deterministic market and faults on demand."""
