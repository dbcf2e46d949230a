"""I/O and nothing else: each module talks to one kind of party and translates its failures into ours."""
