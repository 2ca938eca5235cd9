"""What runs a stack's services: Docker Compose, or plain processes in the sandbox.

These modules run on the host, carried there by `apply.bundle`: standard library only, Python 3.9.
"""
