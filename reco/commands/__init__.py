"""One module a subcommand; each holds a `click.Command` named `command`."""
