"""What can be known before the work: whether data, task and settings fit together, and what the work will take."""
