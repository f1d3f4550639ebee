"""What a run says: console, tables beside the paper's."""
