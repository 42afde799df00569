"""The paper's experiments: their settings and their numbers."""
