"""Arrays become x [B, T, D]."""
