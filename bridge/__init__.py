"""The bridge: REST + WebSocket over the TWS API. Start it with `python -m bridge`."""

__version__ = "0.1.0"
