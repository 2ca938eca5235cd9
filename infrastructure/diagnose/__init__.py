"""`diagnose`: what a client of the bridge would see, step by step, and what it means."""
