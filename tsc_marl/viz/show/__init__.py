"""A page that plays a recorded episode: one HTML file that needs no other file, no network and no display."""
