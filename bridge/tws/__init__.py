"""One connection to the gateway.

Its state, supervisor, heartbeat, the broker's codes, queries, subscriptions, pacing lanes.
"""
