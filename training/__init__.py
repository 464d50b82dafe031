"""Trainers: run from the root of a checkout, never shipped."""
