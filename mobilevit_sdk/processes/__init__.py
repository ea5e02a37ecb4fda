"""Child processes and programs of other Pythons, which cannot take this process down."""
