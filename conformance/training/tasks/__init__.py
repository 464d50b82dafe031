"""Tests of training/tasks/: files that are read and left out, batches, losses."""
