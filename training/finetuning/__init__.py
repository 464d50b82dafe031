"""Trainers that start from a checkpoint (`--init`). Imports tasks and training/*.py."""
