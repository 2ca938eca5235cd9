"""The stream hub: what is published once reaches every subscriber in order. Knows no HTTP."""
