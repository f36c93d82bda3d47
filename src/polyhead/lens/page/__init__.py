"""The page of the lens: what a recording shows, asked by a browser of this machine or kept in one file."""
