"""Exchange of results with other people: submissions, verification, comparisons, exports."""
