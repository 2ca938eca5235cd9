"""The sandbox's runtime: plain processes of this machine under supervisord.

Unlike its siblings it never travels: it runs in this project's own environment.
"""
