"""The TWS API server."""
