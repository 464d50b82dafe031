"""What a run has recorded, made again and compared: `arbitor audit` and `arbitor diff`."""
