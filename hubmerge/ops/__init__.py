"""Pure kernels that methods share: no input or output, no logging, inputs never changed."""
