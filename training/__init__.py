"""From a data set to two equal models, trained on equal batches, with the proof."""
