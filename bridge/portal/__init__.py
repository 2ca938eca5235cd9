"""Keeps a Client Portal session: authenticated is not connected.

`state` reads what the Web API says and names it, `client` talks to the gateway within its
limits, `session` opens the brokerage session again and decides when, `certificates` holds the
trust in the gateway's own certificate, `pass_through` lets a few read calls by. No HTTP of the
bridge's own in here.
"""
