"""What `ohem_tf.check` does: findings in data, a trained model's doubts, the page."""
