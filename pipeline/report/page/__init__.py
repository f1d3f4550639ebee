"""The report: one page that opens from disk, and the data that it shows."""
