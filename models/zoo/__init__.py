"""Networks by name (`zoo:NAME` on the command line): one trained and bundled, the others built or fetched."""

from optc.models.zoo.registry import ZooEntry, zoo_entries, zoo_entry, zoo_names

__all__ = ["ZooEntry", "zoo_entries", "zoo_entry", "zoo_names"]
