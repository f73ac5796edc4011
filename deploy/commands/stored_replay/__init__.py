"""`nexus replay` subcommands and what they share."""
