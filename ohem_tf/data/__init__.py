"""Raw data to batches: readers, proposals, records, the input pipeline."""
