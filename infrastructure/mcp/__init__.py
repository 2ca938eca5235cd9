"""The bridge as tools for agents: a Model Context Protocol server over stdio on the laptop.

`bridge` reaches the bridge, `placing` keeps previews and places each at most once, `tools` are what
an agent sees, `server` puts them together. Only `server` and `tools` import the protocol's SDK,
which is an optional requirement (requirements/mcp.in).
"""
