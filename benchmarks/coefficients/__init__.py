"""What coefficients that are found first gain on small classifiers."""
