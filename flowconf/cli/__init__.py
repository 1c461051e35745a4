"""The command line: one thin file a command. Whatever takes time to import is imported inside the commands."""
