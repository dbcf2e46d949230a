"""What an operator sees and does: overview, metrics, alerts, health, admin actions, the daily job."""
