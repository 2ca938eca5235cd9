"""What the accounts are worth: cash, positions, profit and loss, margin."""
