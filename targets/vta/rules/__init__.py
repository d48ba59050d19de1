"""What makes a VTA program well-formed, one family of rules a file; `check.py` runs them all."""
