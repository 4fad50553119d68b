"""Studies: one module or folder per table or figure of the papers, run by one runner."""
