"""The subcommands of `nexus`, a file each."""
