"""The command line: one thin file for each command. Slow imports are made inside the commands."""
