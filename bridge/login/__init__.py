"""What is known of the gateway's login, whoever drives it: one model for all who ask.

`lines` turns a line of a log into events, `model` draws the state from events, `spacing` says when
the next attempt may be made, `states` has the words and sentences.
Pure: time comes in as seconds since 1970.

Runs in the bridge and in the host's program: standard library, Python 3.9. The container itself
only writes events down; what it must decide alone (to hold, to space out) is in
templates/gateway/login.sh and tested against this package.
"""
