"""Who may speak: passwords, twisted.cred, and limits on trying."""
