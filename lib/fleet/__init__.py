"""A fleet of servers: reports of their metrics, their present state, history, simulations, and what is wrong."""
