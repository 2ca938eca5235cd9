"""What would change on a host, and why."""
