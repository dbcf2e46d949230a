"""The real Vercel build, and its output run under the real Vercel runtime, without a login: `python -m dev.vercel`.

- `build`: a copy of the tree, `vercel build` in it. `check`: whether the output is what we meant to deploy.
- `runtime`: the built functions as processes of Vercel's own runtime, with `edge` playing the network in front of them.
- `cold`: what a cold start costs, compared with a function that does nothing.
"""
