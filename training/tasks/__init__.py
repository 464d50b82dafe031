"""What models are trained on: data, batches and losses. Imports arbitor and training/options.py."""
