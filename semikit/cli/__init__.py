"""The command line: typer and rich, one command a file. Heavy packages are imported inside the commands."""
