"""The report page: what finished trainings answer, as one HTML file, with the figures that a paper would use."""
