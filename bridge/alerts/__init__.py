"""Messages to a person, when something goes on that only a person can mend.

`watch` and `host_watch` see an occasion, `service` decides what is said and how often, `messages`
hands them to the services of the address file by way of a short-lived process.
"""
