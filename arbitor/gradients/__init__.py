"""Gradients of ternary weights, which are integers: captured in a backward, also one that torch.compile made,
and summed over more tokens than an operation takes."""
