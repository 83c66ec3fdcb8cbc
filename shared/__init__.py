"""What every service shares: events, features, the model's mathematics, and the adapters."""
