"""Moving scales of channels from one layer to the next, so that 8-bit codes lose less."""
