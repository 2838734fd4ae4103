"""Where the engines come from: PATH, cache, releases, a build."""
