"""The program that runs on the host for the length of one command.

It is sent over the connection by `apply.bundle`, so nothing has to be installed there but Python
3.9 (which every supported distribution ships) and Docker; it uses the standard library only.
"""
