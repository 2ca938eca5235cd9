"""The status page: static files, no build step, no outside resources."""
