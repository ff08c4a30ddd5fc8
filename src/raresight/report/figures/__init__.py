"""The drawings of a report, one idea a file."""
