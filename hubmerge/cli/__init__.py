"""The command line: one file per noun, thin over the three packages.  Only `output` prints."""
