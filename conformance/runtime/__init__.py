"""Tests of modules, capture, update, model and checkpoints. Imports judge, machine, training and tools."""
