"""Models of other code as model folders: read without running anything, renamed, and written."""
