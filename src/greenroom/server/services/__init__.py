"""The server API: one module a Twirp service. Each has a `*_rpcs` function that returns its methods."""
