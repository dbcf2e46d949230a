"""The AI gateway: questions, providers, and the chain that asks them in order."""
