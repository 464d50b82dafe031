"""Runs made again and compared, `arbitor audit` and `arbitor diff`. Imports recording, settings."""
