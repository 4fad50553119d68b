"""What each table or figure consists of, and how it is run."""
