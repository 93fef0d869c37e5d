"""What several tests use: small data with configurations, tiny networks, hostile input, processes, comparisons."""
