"""One connection to the gateway.

State machine, supervisor, heartbeat, error codes, pacing lanes.
"""
