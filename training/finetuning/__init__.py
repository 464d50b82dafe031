"""Trainers that start from a checkpoint (`--init`)."""
