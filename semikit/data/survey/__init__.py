"""What lies in a folder of somebody's own data, and the YAML that would describe it."""
