"""Pictures for papers: what filters look like, and what units of two nets answer to."""
