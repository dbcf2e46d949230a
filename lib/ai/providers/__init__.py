"""One module a provider's protocol, and what they share."""
