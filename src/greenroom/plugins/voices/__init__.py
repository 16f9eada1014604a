"""What voices that are networks have in common: clauses, phonemes, the shape of the sound, and the process that holds the
network for all jobs of a worker."""
