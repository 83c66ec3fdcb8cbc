"""The server: ranks the top 5 with the model of this moment, and keeps nothing of its own."""
