"""What strangers plug in: files, programs, entry points, their capabilities. Imports kernels/*.py only."""
