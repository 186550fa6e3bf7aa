"""What only the command line needs; imported by nothing above it."""
