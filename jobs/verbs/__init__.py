"""The verbs of the command that work with runs, versions and data."""
