"""What a checkpoint holds, as tables and a picture. Imports arbitor/ and kernels."""
