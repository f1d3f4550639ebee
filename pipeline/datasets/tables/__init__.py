"""Tables of any kind as data: Parquet, CSV, JSON Lines and folders of pictures, and the readers of their rows."""
