"""Runs of trainers on disk: their folder, what goes wrong around it, and how one goes on."""
