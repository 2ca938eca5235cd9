"""The position manager: rules that watch positions and close them."""
