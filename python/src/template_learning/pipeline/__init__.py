"""What a run publishes and what is generated from the settings."""
