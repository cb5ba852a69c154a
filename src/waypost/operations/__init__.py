"""The pages that the operator of a service looks at."""
