"""The demo apps: brought to phones, served to their browsers, and written as projects."""
