"""The command line: its commands, options, exits and logs."""
