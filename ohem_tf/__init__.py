"""Object detectors trained with online hard example mining (OHEM) in TensorFlow and Keras 3."""

import os

__version__ = "0.1.0"

# Keras 3 asks this, or a file in the home directory, which library computes; here there is one.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Most of TensorFlow's start-up messages (CPU features, missing CUDA) would bury ours. Its errors
# reach Python as exceptions all the same; TF_CPP_MIN_LOG_LEVEL=0 brings the messages back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
