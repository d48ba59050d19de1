"""Compiled simulation of an ECP5's netlist: cycle by cycle, of one clock."""
