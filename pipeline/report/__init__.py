"""What people read of a run: tables as text beside the paper's, and pictures."""
