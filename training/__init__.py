"""Trainers: their commands, the loop, and the data of each kind in tasks. Imported as arbitor.training."""
