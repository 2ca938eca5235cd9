"""The broker-aware states: container -> JVM -> login -> API handshake -> bridge -> Caddy.

`login` reads the gateway's log lines, `probes` compares the flags of the running JVM and asks the
bridge and Caddy. They run on the host (standard library, Python 3.9), and `login` also
wherever the gateway's log is read.
"""
