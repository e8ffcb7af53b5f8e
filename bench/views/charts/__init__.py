"""Charts: one definition per chart."""
