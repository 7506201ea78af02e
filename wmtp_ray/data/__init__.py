"""From labelled programs to planned, packed batches."""
