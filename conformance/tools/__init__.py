"""Tests of commands and plugins. Imports judge, draw, machine, operations and training."""
