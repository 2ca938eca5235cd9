"""Messages to a person, when something goes on that only a person can mend.

`kinds` are the occasions, `watch` sees them, `alerts` decides what is said and how often, `sender`
hands messages to the services of the address file by way of a short-lived process.
"""
