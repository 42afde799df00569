"""From a checkpoint to a SavedModel that TensorFlow Serving takes, and a client for it."""

import ohem_tf as ohem_tf  # before TensorFlow, whose start-up lines it leaves out

MODEL_NAME = "ohem_tf"  # under which serving/models.config serves the exports
