"""Target `fpga`: VTA in RTL, its simulation, and bitstreams."""
