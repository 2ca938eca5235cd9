"""The simulated market: hours, prices, options; everything a function of seed and time."""
