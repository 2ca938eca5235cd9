"""Makes a bare Debian or Ubuntu machine ready: one script of small, re-runnable steps."""
