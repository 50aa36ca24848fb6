"""Models of one architecture brought into one order of units, with the weights they have: what `symmetry align` does, and a recipe's `align`."""
