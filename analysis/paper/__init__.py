"""AC-ODM's paper: its claims, its tables and figures, and ours beside them."""
