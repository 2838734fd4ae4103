"""Get the engines: from the cache, PATH, an official release or a build."""
