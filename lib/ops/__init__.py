"""What an operator sees and does: overview, metrics, alerts, health, actions by hand, the daily job."""
