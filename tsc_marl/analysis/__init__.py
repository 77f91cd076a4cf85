"""What finished trainings show: comparisons, phase values, gradient statistics."""
