"""What is refused: on a device, the first of two illegal elements, elements that a clause leaves out."""
