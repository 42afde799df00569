"""From an image and a trained model to final detections."""
