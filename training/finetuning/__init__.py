"""Trainers that start from a checkpoint (`--init`). Imports training/*.py."""
