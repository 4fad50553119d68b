"""Tasks: resumable pieces of work, and the engines that do them here, in processes or on Ray."""
