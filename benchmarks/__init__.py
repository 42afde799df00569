"""Scripts that measure; their pages are in docs/results."""

import ohem_tf as ohem_tf  # before TensorFlow, whose start-up lines it leaves out
