"""What ohem_tf.report does: runs are read, analysed, and drawn as one page."""
