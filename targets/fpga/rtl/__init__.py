"""The core in Amaranth: one module a file; docs/fpga.md draws how they fit together."""
