"""The AI gateway: questions, providers, and the chain that calls them in order."""
