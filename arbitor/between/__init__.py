"""What ARBModel does between its layers: the operations of section 13, with gradients."""
