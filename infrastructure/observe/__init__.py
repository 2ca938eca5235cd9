"""What is on the host now: pure parsers of what commands print, and files as they lie there."""
