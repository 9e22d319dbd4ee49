"""Published rows and figures: what they are, how they are run, and what came of them."""
