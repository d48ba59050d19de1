"""Working through a model layer by layer on calibration samples."""
