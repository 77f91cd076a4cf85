"""Analysis of finished trainings: comparisons, phase values, gradient statistics."""
