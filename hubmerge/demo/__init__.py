"""What `hubmerge demo` trains, writes and measures: small, real, and the same on every run.

Real pictures (scikit-learn's handwritten digits), real training, ordinary model folders.  The demo itself, the
commands it types, is in `hubmerge.cli.demo`; nothing else of the project imports this package.
"""
