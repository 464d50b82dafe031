"""How fast a backend is beside what people use. Imports arbitor/, arbitor.judge and kernels."""
