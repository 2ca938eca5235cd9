"""What can be traded: the listed instruments, and the search for what a client described."""
