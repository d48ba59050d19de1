"""Models: loading, saving, labelled data, and the bundled zoo. The lowest layer: imports nothing above."""
