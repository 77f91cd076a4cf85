"""The report page, and the archive of finished trainings."""
