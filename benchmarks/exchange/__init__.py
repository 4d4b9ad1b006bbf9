"""Results that come from other people or go to them: submissions, verification, comparisons, exports."""
