"""Pictures and measures of what a network did and why."""
