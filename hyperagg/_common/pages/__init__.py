"""HTML pages that need no server and run no script: explanations and evaluations."""
