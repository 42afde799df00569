"""What benchmarks.fuzz damages, and how."""
