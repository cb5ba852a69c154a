"""The pieces that all HTTP applications of `waypost.operations` share: requests, answers, problems, keys."""
