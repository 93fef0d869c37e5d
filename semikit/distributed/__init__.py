"""What the processes of a run have together."""
