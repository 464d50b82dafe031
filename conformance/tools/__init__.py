"""Tests of the commands and of what plugs in. Imports judge, draw, operations and runtime."""
