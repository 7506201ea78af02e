"""One module for each thing that a report shows; each function returns a section, or "" where there is nothing."""
