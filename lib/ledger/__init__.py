"""What is counted across instances, and what is left of every free tier."""
