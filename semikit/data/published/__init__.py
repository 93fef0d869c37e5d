"""Published data sets by name: fetching, preparing, verifying, reading, official splits."""
