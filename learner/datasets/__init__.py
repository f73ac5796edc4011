"""Images and clips to train on, from files, recorded episodes or the replay, in seeded batches."""
